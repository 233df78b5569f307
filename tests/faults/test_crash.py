"""Workers that die, freeze, or are told to go: nothing is lost, and only what was in flight is paid again."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from onceq_service.store import Store, scripts
from onceq_service.store._lua import Script
from tests.faults.deployment import LEASE_S, Deployment, Node
from tests.faults.proxy import Moment
from tests.faults.run import Expect
from tests.faults.trial import Trial
from tests.service.store.driver import admission, dispatch, success
from tests.waiting import until

pytestmark = pytest.mark.faults
full = pytest.mark.faults_full

CALM = Expect(lease_s=LEASE_S)
SAFE_TOKENS = 160
PATIENT = {"first_byte_s": 60, "between_bytes_s": 60}
"""Of jobs whose first call says nothing for long, so that the kill comes meanwhile however slow this process is."""
MOMENTS = (
    pytest.param("dispatch", "asked", 0, id="before-the-record"),
    pytest.param("dispatch", "answered", 0, id="after-the-record", marks=full),
    pytest.param("append", "asked", 1, id="before-the-first-token-is-written", marks=full),
    pytest.param("finish", "asked", 1, id="after-the-last-token", marks=full),
    pytest.param("finish", "answered", 0, id="after-finish"),
)
SCRIPTS: dict[str, Script] = {s.name: s for s in (scripts.DISPATCH, scripts.APPEND, scripts.FINISH, scripts.NEXT)}


async def test_nothing_goes_wrong(trial: Trial) -> None:
    async with trial.load(24):
        pass
    await trial.judge(CALM)


async def test_a_worker_is_killed_in_mid_stream(trial: Trial, deployment: Deployment) -> None:
    async with trial.load(24, tokens=160):
        await trial.streaming(deployment.workers[0], 3)
        held = await trial.kill_worker(deployment.workers[0])
    await trial.judge(replace(CALM, extra_calls=len(held)))


async def test_a_worker_is_killed_and_the_jobs_have_a_budget(trial: Trial, deployment: Deployment) -> None:
    """What its calls may have cost stays counted, their successors are topped up, and the limit holds all the time."""
    await trial.limited(0.1)
    slow_once = "[[sim tokens=20 tps=100 ttft_ms=50 fault=slow times=1 slow_ms=7000]]"
    prompts = [f"paid {n} of {trial.tenant} {slow_once}" for n in range(12)]
    async with trial.watching_budgets(), asyncio.TaskGroup() as group:
        for prompt in prompts:
            group.create_task(trial.ask(prompt, readers=1, max_tokens=500, timeouts=PATIENT))
        job_id, node = await trial.dispatched()
        await trial.called([job_id])
        held = await trial.kill_worker(node)
    assert any(budget.simulated_use.reserved_nano_usd for budget in trial.watched)
    figures = await trial.judge(replace(CALM, extra_calls=len(held)))
    assert figures.calls > len(prompts)


@pytest.mark.parametrize(("script", "moment", "extra"), MOMENTS)
async def test_a_worker_is_killed(
    trial: Trial, deployment: Deployment, script: str, moment: Moment, extra: int
) -> None:
    """One job, one worker that can take it: killed at that moment, the other one finds what is left."""
    other, victim = deployment.workers
    other.send(signal.SIGSTOP)
    trap = deployment.proxy.trap(SCRIPTS[script], moment)
    asking = asyncio.create_task(trial.ask(f"{script} {moment} [[sim tokens=20 tps=100 ttft_ms=50]]"))
    await trap.sprung()
    os.kill(await trial.pid(victim), signal.SIGKILL)
    await trial.died(f"kill -9 when {script} was {moment}", victim.name, await trial.held_by(victim))
    other.send(signal.SIGCONT)
    await asking
    figures = await trial.judge(replace(CALM, extra_calls=extra))
    assert (figures.jobs, figures.calls, figures.extra) == (1, 1 + extra, extra)


@full
async def test_a_worker_is_killed_before_the_first_byte_of_an_answer(trial: Trial, deployment: Deployment) -> None:
    hangs_once = "[[sim tokens=20 tps=100 ttft_ms=50 fault=hang times=1]]"
    asking = asyncio.create_task(trial.ask(f"{trial.tenant} {hangs_once}", timeouts=PATIENT))
    job_id, node = await trial.dispatched()
    await trial.called([job_id])
    await trial.kill_worker(node)
    assert await asking == job_id
    assert (await trial.judge(replace(CALM, extra_calls=1))).calls == 2


@full
async def test_a_worker_is_killed_and_on_crash_says_fail(trial: Trial, deployment: Deployment) -> None:
    asking = [asyncio.create_task(trial.ask(f"once {n} [[sim tokens=160 tps=40]]", on_crash="fail")) for n in range(24)]
    await trial.streaming(deployment.workers[0], 2)
    held = await trial.kill_worker(deployment.workers[0])
    await asyncio.gather(*asking)
    figures = await trial.judge(replace(CALM, statuses=frozenset({"succeeded", "failed"}), extra_calls=len(held)))
    assert figures.calls == 24, "nothing was called again"


async def test_a_worker_is_killed_and_on_crash_says_resume(trial: Trial, deployment: Deployment) -> None:
    """The provider goes on meanwhile; another worker takes the same call up where the log ends."""
    prompts = [f"resumed {n} [[sim tokens=160 tps=40 ttft_ms=50]]" for n in range(24)]
    asking = [asyncio.create_task(trial.ask(prompt, on_crash="resume")) for prompt in prompts]
    await trial.streaming(deployment.workers[0], 3)
    await trial.kill_worker(deployment.workers[0])
    await asyncio.gather(*asking)
    figures = await trial.judge(CALM)
    assert figures.calls == 24, "nothing was called again"


@full
async def test_workers_are_killed_at_two_hundred_random_tokens_and_every_job_is_paid_once(
    trial: Trial, deployment: Deployment
) -> None:
    """Row N1: in the safe modes a crash never makes a second call, wherever in the answer it comes."""
    posted, reached = 0, Counter[int]()
    while trial.hit < 200:
        async with asyncio.TaskGroup() as group:
            for n in range(posted, posted + 32):
                pace = f"tps={trial.rng.randint(20, 40)} ttft_ms={trial.rng.randint(20, 500)}"
                prompt = f"safe {n} [[sim tokens={SAFE_TOKENS} {pace}]]"
                group.create_task(trial.ask(prompt, readers=1, on_crash=("resume", "fail")[n % 2]))
            kills = posted // 32
            events = await kill_half_way(trial, deployment.workers[kills % 2], kills % 4)
            reached.update(4 * seq // SAFE_TOKENS for seq in events)
        posted += 32
    assert {quarter for quarter, count in reached.items() if count >= 5} >= {0, 1, 2, 3}, "all over the answers"
    ends = frozenset({"succeeded", "failed"})
    figures = await trial.judge(replace(CALM, statuses=ends, extra_calls=trial.hit))
    assert figures.calls == figures.jobs == posted


async def kill_half_way(trial: Trial, node: Node, quarter: int) -> list[int]:
    """Kills a worker when half of its jobs are past a place in that quarter of their answers; where it hit them."""
    place = 1 + int(0.9 * SAFE_TOKENS * (quarter + trial.rng.random()) / 4)

    async def look() -> list[int] | None:
        events = sorted(await trial.events_of(node))
        return events if events and events[len(events) // 2] >= place else None

    events = await until(look, f"{node.name} to be at the {place}th event of half of its jobs")
    await trial.kill_worker(node)
    return events


@full
async def test_both_workers_are_killed_again_and_again(trial: Trial, deployment: Deployment) -> None:
    held = 0
    async with trial.busy(tokens=120):
        for node in (*deployment.workers, *deployment.workers):
            await trial.streaming(node, 2)
            held += len(await trial.kill_worker(node))
    await trial.judge(replace(CALM, extra_calls=held, max_calls=5))


async def test_a_frozen_worker_wakes_and_writes_nothing(trial: Trial, deployment: Deployment) -> None:
    node = deployment.workers[0]
    async with trial.load(24, tokens=160):
        await trial.streaming(node, 2)
        held = await trial.lose(node, "SIGSTOP", lambda: node.send(signal.SIGSTOP))
        await trial.nothing_held_by(node)
        node.send(signal.SIGCONT)
    await trial.judge(replace(CALM, extra_calls=len(held)))


@full
async def test_a_worker_is_cut_off_from_redis(trial: Trial, deployment: Deployment) -> None:
    """Everything it sent meanwhile arrives afterwards, late and with a stale fence; what it had read is on the bill."""
    node = deployment.workers[1]
    async with trial.load(32, tokens=160):
        await trial.streaming(node, 2)
        held = await trial.lose(node, "cut off", deployment.proxy.cut)
        await trial.nothing_held_by(node)
        deployment.proxy.mend()
    await trial.let_go(node)
    await trial.judge(replace(CALM, extra_calls=len(held), owned_up=True))


@full
async def test_all_processes_are_restarted_one_after_the_other_in_mid_burst(
    trial: Trial, deployment: Deployment
) -> None:
    async with trial.busy():
        for api, worker in zip(deployment.apis, deployment.workers, strict=True):
            await trial.streaming(worker, 2)
            await asyncio.gather(asyncio.to_thread(api.end), asyncio.to_thread(worker.end))
            trial.fault("SIGTERM", f"{api.name} {worker.name}")
            await asyncio.to_thread(deployment.mend)
    figures = await trial.judge(CALM)
    assert figures.extra == 0


async def test_a_workers_clock_is_an_hour_ahead(trial: Trial, deployment: Deployment) -> None:
    """Redis's clock is the only one that counts: leases, deadlines, delays, what readers are told."""
    node, other = deployment.workers
    await asyncio.to_thread(deployment.restart, node, an_hour_ahead())
    other.send(signal.SIGSTOP)  # else it has done everything alone when the node is slow
    try:
        async with trial.load(24):
            await trial.streaming(node, 3)
            other.send(signal.SIGCONT)
        await trial.judge(CALM)
    finally:
        await asyncio.to_thread(deployment.restart, node, dict.fromkeys(an_hour_ahead(), ""))


def an_hour_ahead() -> dict[str, str]:
    """The environment of a process that lives an hour ahead (Debian's libfaketime); monotonic time stays true."""
    [library] = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    return {"LD_PRELOAD": str(library), "FAKETIME": "+1h", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


async def test_four_workers_that_claim_at_once_never_get_the_same_job(store: Store) -> None:
    made = {(await store.jobs.admit(admission())).id for _ in range(40)}
    claimed: list[str] = []

    async def work(worker: str) -> None:
        while claims := (await store.engine.claim(worker, 3, ["openai"]))[0]:
            claimed.extend(claim.id for claim in claims)
            for claim in claims:
                await dispatch(store, claim)
                await store.engine.finish(claim, success(3))

    await asyncio.gather(*(work(f"w{n}") for n in range(4)))
    assert sorted(claimed) == sorted(made)


async def test_answers_of_redis_are_lost_on_the_wire(trial: Trial, deployment: Deployment) -> None:
    """The effect is there, the answer is not: asking again changes nothing."""
    lost = [deployment.proxy.trap(script, "answered", cut=True) for script in SCRIPTS.values()]
    lost.append(deployment.api_proxy.trap(scripts.ADMIT_PLAIN, "answered", cut=True))
    async with trial.busy():
        await asyncio.gather(*(trap.sprung() for trap in lost))
    figures = await trial.judge(CALM)
    assert figures.calls == figures.jobs


@full
async def test_a_job_that_kills_its_workers_is_given_up_and_its_neighbours_are_done(
    trial: Trial, deployment: Deployment
) -> None:
    other, victim = deployment.workers
    await asyncio.to_thread(other.end)
    deployment.proxy.cut()
    job_id = await trial.post("poison [[sim tokens=5 tps=0]]")
    reading = asyncio.create_task(trial.read(job_id))
    trap = deployment.proxy.trap(scripts.DISPATCH, "asked", job=job_id)
    deployment.proxy.mend()
    beside: list[list[str]] = []
    async with trial.busy(per_s=1, tokens=20):
        for _ in range(6):
            await trap.sprung()
            beside.append([held for held in await trial.held_by(victim) if held != job_id])
            trap = deployment.proxy.trap(scripts.DISPATCH, "asked", job=job_id)
            await trial.kill_worker(victim)
    await reading
    assert beside[2:] == [[], [], [], []], "after two deaths it runs alone"
    ends = frozenset({"succeeded", "failed"})
    figures = await trial.judge(replace(CALM, statuses=ends, extra_calls=20, max_calls=7, recovers=False))
    job = await trial.store.jobs.get(job_id, trial.tenant)
    assert job is not None
    assert job.error is not None
    assert (job.error.code, job.calls) == ("poison", 0)
    assert (await trial.store.stats.depth(trial.tenant)).succeeded == figures.jobs - 1
