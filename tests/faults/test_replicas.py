"""API replicas that die, and readers of every kind: what they read is the log, whole and in order."""

from __future__ import annotations

import asyncio
import resource
import signal
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from onceq.wire import MAX_BODY_BYTES, Job
from tests.faults.collect import meter_rows
from tests.faults.deployment import LEASE_S, Deployment, Node
from tests.faults.run import Expect
from tests.faults.trial import Trial
from tests.waiting import until

pytestmark = pytest.mark.faults
full = pytest.mark.faults_full

CALM = Expect(lease_s=LEASE_S)
STUCK_S = 30.0
"""api.events.SEND_TIMEOUT_S: how long a reader may take nothing."""
STORM_MB = 150
"""What a replica may keep after a storm: 500 readers at once make it grow, and an allocator gives little back."""
GRACE_S = 3
REDIS_CONNECTIONS = 24
"""What a replica keeps open to Redis after a storm: its three pools, whatever the number of readers was."""


async def test_a_replica_is_killed_while_readers_follow(trial: Trial, deployment: Deployment) -> None:
    async with trial.load(24, tokens=120):
        await trial.streaming(deployment.workers[0], 2)
        await asyncio.to_thread(deployment.apis[0].kill)
        trial.fault("kill -9", deployment.apis[0].name)
    await trial.judge(CALM)


@full
async def test_each_replica_is_killed_twice_while_readers_follow(trial: Trial, deployment: Deployment) -> None:
    async with trial.busy():
        for node in (*deployment.apis, *deployment.apis):
            await trial.streaming(deployment.workers[0], 2)
            await asyncio.to_thread(node.kill)
            trial.fault("kill -9", node.name)
            await asyncio.to_thread(deployment.mend)
    await trial.judge(CALM)


@full
async def test_a_replica_is_frozen_for_ten_seconds_while_readers_follow(trial: Trial, deployment: Deployment) -> None:
    """Its readers go on at the other replica, which alone looks after leases meanwhile; no job is taken for lost."""
    async with trial.busy():
        await trial.streaming(deployment.workers[0], 2)
        deployment.apis[0].send(signal.SIGSTOP)
        trial.fault("SIGSTOP", deployment.apis[0].name)
        await asyncio.sleep(10)  # the fault itself: how long it does not answer
        deployment.apis[0].send(signal.SIGCONT)
    figures = await trial.judge(CALM)
    assert figures.calls == figures.jobs, "nothing was called again"


@full
async def test_readers_vanish_and_a_job_that_wants_it_is_cancelled_after_its_grace(
    trial: Trial, deployment: Deployment
) -> None:
    """One replica dies in the grace. Who stays, there or at the other one, keeps the job that it follows."""
    prompt = "[[sim tokens=600 tps=40 ttft_ms=20]]"
    wish: dict[str, Any] = {"on_disconnect": "cancel", "disconnect_grace_s": GRACE_S}
    left = [await trial.post(f"left {n} {prompt}", **wish) for n in range(6)]
    kept = [asyncio.create_task(trial.ask(f"kept {n} {prompt}", **wish)) for n in range(4)]
    gone = [await trial.leave(job_id, 20, n % 2) for n, job_id in enumerate(left)]
    last_seen = {r.job: r.t for r in trial.history.read() if r.frame and r.who in gone}
    await asyncio.to_thread(deployment.apis[0].kill)
    trial.fault("kill -9", deployment.apis[0].name)
    jobs = [await ended(trial, job_id) for job_id in left]
    for job in jobs:
        assert job.finished_at is not None
        assert job.error is not None
        assert (job.status, job.error.code) == ("cancelled", "disconnected")
        finished, seen = job.finished_at.timestamp(), last_seen[job.id]
        assert finished - seen + 0.001 >= GRACE_S, "to the millisecond in which Redis writes it down"
        assert deployment.watch.worked_s(seen, finished) < GRACE_S + 2
        assert job.receipt is not None
        assert 0 < job.receipt.output_tokens < 600
        assert (job.receipt.spent_nano_usd, job.receipt.may_still_bill) == (job.cost.nano_usd, True)
    await asyncio.gather(*kept)
    for task in kept:
        assert (await ended(trial, task.result())).status == "succeeded"
    await closed_upstream(deployment, set(left))
    statuses = frozenset({"succeeded", "cancelled"})
    await trial.judge(replace(CALM, statuses=statuses, abandoned=frozenset(gone)))


async def ended(trial: Trial, job_id: str) -> Job:
    async def look() -> Job | None:
        job = await trial.store.jobs.get(job_id, trial.tenant)
        return job if job is not None and job.finished_at is not None else None

    return await until(look, f"the end of {job_id}", timeout_s=60)


async def closed_upstream(deployment: Deployment, ids: set[str]) -> None:
    """Waits until the provider knows of every call that it was closed: it may hear of that after a job has ended."""

    async def look() -> bool:
        rows = await meter_rows(deployment, ids)
        return {row.job for row in rows} == ids and {row.status for row in rows} == {"aborted"}

    await until(look, f"the calls of {ids} to be closed upstream", timeout_s=5)


async def test_readers_drop_at_random_and_come_back_to_the_other_replica(trial: Trial) -> None:
    prompts = [f"dropped {n} [[sim tokens=60 tps=60 ttft_ms=20]]" for n in range(6)]
    await asyncio.gather(*(trial.ask(prompt, readers=8, drop=0.3) for prompt in prompts))
    figures = await trial.judge(CALM)
    assert figures.hops > 100


async def test_a_hundred_equal_jobs_ride_one_call_and_all_read_it_from_its_first_token(trial: Trial) -> None:
    """Row N8: no key is shared, only what is asked for."""
    prompt = "shared [[sim tokens=60 tps=40 ttft_ms=50]]"
    ids = await asyncio.gather(*(trial.ask(prompt, readers=1, dedupe_window_s=600) for _ in range(100)))
    figures = await trial.judge(CALM)
    assert len(set(ids)) == figures.jobs == figures.calls == 1
    assert figures.readers == 100


async def test_a_prompt_of_five_megabytes_is_answered(trial: Trial) -> None:
    directive = "[[sim tokens=20 tps=0 ttft_ms=0]]"
    prompt = directive.rjust(5 * 1024 * 1024, "x")
    assert len(prompt) < MAX_BODY_BYTES
    await trial.ask(prompt)
    await trial.judge(CALM)


@full
async def test_a_stream_of_two_thousand_events_is_gapless(trial: Trial) -> None:
    job_id = await trial.ask("long [[sim tokens=2200 tps=100 ttft_ms=0]]", readers=3, drop=0.01)
    await trial.judge(CALM)
    job = await trial.store.jobs.fields(job_id, trial.tenant)
    assert job is not None
    assert int(job["seq"]) > 2000


@full
async def test_a_thousand_readers_come_at_once_and_leave_nothing_behind(trial: Trial, deployment: Deployment) -> None:
    files, memory = [open_files(node) for node in deployment.apis], [memory_mb(node) for node in deployment.apis]
    await trial.ask("storm [[sim tokens=100 tps=20 ttft_ms=1000]]", readers=1000, drop=0.01)
    await trial.judge(CALM)
    await trial.hang_up()

    async def calm_again() -> bool:
        return all(
            open_files(node) <= before + REDIS_CONNECTIONS for node, before in zip(deployment.apis, files, strict=True)
        )

    await until(calm_again, "the replicas to close what the readers had open", timeout_s=30)
    for node, before in zip(deployment.apis, memory, strict=True):
        assert memory_mb(node) < before + STORM_MB, f"{node.name} had {before:.0f} MB before"


@full
async def test_a_reader_that_never_reads_is_cut_and_can_come_back(trial: Trial, deployment: Deployment) -> None:
    """The answer is more than the kernel holds for it, so the replica has to wait; it does so for STUCK_S."""
    before = open_files(deployment.apis[0])
    with socket.socket() as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        address = urlsplit(deployment.urls[0])
        stuck.connect((address.hostname, address.port))
        job_id = await trial.post("flood [[sim tokens=1000000 tps=0 ttft_ms=0]]", max_tokens=1_000_000)
        stuck.sendall(trial.raw_request(job_id, address.netloc))
        await trial.read(job_id, drop=0)
        await trial.judge(CALM)

        async def cut() -> bool:
            return open_files(deployment.apis[0]) <= before + 1

        await until(cut, "the stuck reader to be cut", timeout_s=STUCK_S + 10)


def open_files(node: Node) -> int:
    """Files and connections that a process has open."""
    return len(list(Path(f"/proc/{node.running.popen.pid}/fd").iterdir()))


def memory_mb(node: Node) -> float:
    """What a process has in memory (resident), in MB."""
    pages = int(Path(f"/proc/{node.running.popen.pid}/statm").read_text("ascii").split()[1])
    return pages * resource.getpagesize() / 1e6
