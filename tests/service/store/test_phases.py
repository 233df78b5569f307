"""Where a job's time went: the phases sum to the total to the millisecond, whatever became of the job."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import pytest

from onceq.wire import PHASES, Job, Phases
from onceq_service.embedded.redis_server import EmbeddedRedis
from onceq_service.store import Retention, Store, open_store
from onceq_service.store.engine import Claim, End, LeaseLost, Receipt
from tests.service.store.driver import PRICES, admission, claim_one, dispatch, success, text_frame
from tests.service.store.timed import later
from tests.waiting import until

REFUSED = Receipt("provider_rate_limited", billed=False)
BROKEN = Receipt("stream_broken", billed=True, input_tokens=3, output_tokens=2, spent_nano_usd=70)


def ms(phases: Phases) -> dict[str, int]:
    """Milliseconds of those that took any."""
    took = {name: round(getattr(phases, f"{name}_s") * 1000) for name in PHASES}
    return {name: n for name, n in took.items() if n}


async def ended(store: Store, job_id: str) -> tuple[Job, dict[str, int]]:
    """The job and its phases; fails unless they sum to its life."""
    job = await store.jobs.get(job_id, "t")
    assert job is not None
    assert job.finished_at is not None, job
    assert job.timings.phases is not None
    assert job.timings.total_s is not None
    took = ms(job.timings.phases)
    life_ms = round((job.finished_at - job.created_at).total_seconds() * 1000)
    assert sum(took.values()) == round(job.timings.total_s * 1000) == life_ms, (job.timings, job.status)
    return job, took


async def sent_one(store: Store, **changes: Any) -> tuple[str, Claim, int]:
    """A dispatched job: its id, its claim, the log's last number."""
    made = await store.jobs.admit(admission(**changes))
    claim = await claim_one(store)
    return made.id, claim, (await dispatch(store, claim)).seq


async def test_what_the_worker_measured_is_where_the_time_of_a_call_went(store: Store) -> None:
    job_id, claim, seq = await sent_one(store)
    await asyncio.sleep(0.2)
    end = success(seq + 1)
    await store.engine.finish(claim, replace(end, measured="7 11 60 40 13"))
    took = (await ended(store, job_id))[1]
    assert (took["connect"], took["provider_ttft"], took["generation"], took["stalls"]) == (11, 60, 40, 13)
    assert took["worker"] >= 7
    assert took["delivery"] > 0


async def test_a_worker_that_claims_to_have_measured_more_than_there_was_is_cut(store: Store) -> None:
    job_id, claim, seq = await sent_one(store)
    end = success(seq + 1)
    await store.engine.finish(claim, replace(end, measured="0 0 90000000 5 5"))
    took = (await ended(store, job_id))[1]
    assert "generation" not in took


async def test_the_api_s_own_time_belongs_to_the_job(timed: Store) -> None:
    made = await timed.jobs.admit(admission(), read_at=time.monotonic() - 1.5)
    await timed.jobs.cancel(made.id, "t")
    job, took = await ended(timed, made.id)
    assert took.keys() == {"accept"}
    assert 1500 <= took["accept"] < 60_000
    assert job.timings.verdict == "our_code"


async def test_a_refused_try_waits_for_the_limiter_and_the_jobs_behind_it_too(store: Store) -> None:
    first, claim, _ = await sent_one(store)
    second = await store.jobs.admit(admission("behind it"))
    await store.engine.requeue(claim, REFUSED, delay_s=0.4, brake_s=0.4, reason="provider_rate_limited")
    for _ in range(2):
        again = await until(lambda: _claimed(store), "a job after the brake")
        sent = await store.engine.dispatch(again, again.number("tries") + 1, 100, PRICES)
        await store.engine.finish(again, success(sent.seq + 1))
    assert (await ended(store, first))[1]["limiter"] >= 400
    took = (await ended(store, second.id))[1]
    assert 300 <= took["limiter"] <= 400
    assert "backoff" not in took


async def _claimed(store: Store) -> Claim | None:
    await store.engine.tend()
    return next(iter((await store.engine.claim("w1", 1, ["openai"]))[0]), None)


async def test_a_limit_of_our_own_is_the_queue_and_one_that_was_learned_is_the_limiter(store: Store) -> None:
    for lane, how in (("openai/own", "queue"), ("openai/theirs", "limiter")):
        own = "1,0,0,0" if how == "queue" else ""
        kept: dict[str, Any] = {"model": lane, "lane": lane, "limits": own}
        _, claim, seq = await sent_one(store, **kept)
        if how == "limiter":
            await store.lanes.learn(lane, "1,0,0,0", used=1)
        waits = await store.jobs.admit(admission("second", **kept))
        assert await _claimed(store) is None
        await asyncio.sleep(0.15)
        await store.jobs.cancel(waits.id, "t")
        took = (await ended(store, waits.id))[1]
        assert took.get(how, 0) >= 100, (how, took)
        await store.engine.finish(claim, success(seq + 1))


async def test_waiting_for_a_worker_that_stops_a_call_is_not_the_limiter_s_time(store: Store) -> None:
    """What holds its lane holds no job that is only to be stopped."""
    job_id, claim, _ = await sent_one(store, on_crash="resume")
    await store.engine.attach(claim, "resp_1")
    _, refused, _ = await sent_one(store)
    await store.engine.requeue(refused, REFUSED, delay_s=60, brake_s=60, reason="provider_rate_limited")
    assert await store.engine.hand_over(claim, delay_s=0, reason="worker_lost")
    assert await store.jobs.cancel(job_id, "t") == "requested"
    await asyncio.sleep(0.2)
    [again] = (await store.engine.claim("w2", 1, ["openai"]))[0]
    await store.engine.finish(
        again, End("cancelled", b"", b"", Receipt("cancelled", billed=True), kept=False, first_seq=0)
    )
    took = (await ended(store, job_id))[1]
    assert took["queue"] >= 190  # what it waited before it was cancelled may be the limiter's


async def test_a_job_that_asked_to_wait_is_not_queued_until_then(timed: Store) -> None:
    now_ms = await timed.stats.now_ms()
    made = await timed.jobs.admit(admission(not_before_ms=now_ms + 300))
    await later(timed, 0.35)
    claim = await claim_one(timed)
    await dispatch(timed, claim)
    await timed.engine.finish(claim, success(3))
    assert (await ended(timed, made.id))[1] == {"scheduled": 300, "queue": 50}


async def test_a_stuck_reader_is_known_to_a_job_that_lives_and_to_no_other(timed: Store) -> None:
    job_id, claim, seq = await sent_one(timed)
    for s in (2.5, 7.0, 4.0):
        await timed.jobs.stuck(job_id, s)
    await timed.engine.finish(claim, success(seq + 1))
    assert (await ended(timed, job_id))[0].timings.verdict == "client_slow"
    other, claim, seq = await sent_one(timed)
    await timed.engine.finish(claim, success(seq + 1))
    await timed.jobs.stuck(other, 9.0)
    assert (await ended(timed, other))[0].timings.verdict is None
    assert "reader_ms" not in (await timed.jobs.fields(other, "t") or {})


async def test_phases_and_verdicts_are_in_the_sums(timed: Store) -> None:
    job_id, claim, seq = await sent_one(timed)
    await timed.jobs.stuck(job_id, 3.0)
    await later(timed, 0.2)
    await timed.engine.finish(claim, success(seq + 1))
    job, took = await ended(timed, job_id)
    assert took == {"worker": 200}
    now_ms = await timed.stats.now_ms()
    (hour,) = await timed.stats.hours("t", now_ms - 3_600_000, now_ms)
    totals = hour.point().totals
    assert totals.verdicts == {"client_slow": 1}
    assert sum(totals.phases.values()) == pytest.approx(job.timings.total_s)
    assert {name: s for name, s in totals.phases.items() if s} == {name: n / 1000 for name, n in took.items()}


@pytest.fixture
async def brief(redis_server: EmbeddedRedis, queue: str) -> AsyncGenerator[Store]:
    """A store whose leases last half a second."""
    async with open_store(redis_server.url, queue, Retention(lease_s=0.5)) as store:
        yield store


class Walk:
    """Random transitions of one job after the other, by any of their ways."""

    def __init__(self, store: Store, seed: int) -> None:
        self.store, self.rng, self.ids, self.held = store, random.Random(seed), list[str](), list[Claim]()

    async def one_that_succeeds(self) -> None:
        """Some walks end no job but by the cancel at their end."""
        self.ids.append((await self.store.jobs.admit(admission("first"))).id)
        sent = await dispatch(self.store, claim := await claim_one(self.store))
        await self.store.engine.finish(claim, success(sent.seq + 1))

    async def step(self) -> None:
        """One transition, whether it may be done or not."""
        do = self.rng.choice(
            [self.admit, self.admit, self.claim, self.claim, self.work, self.work, self.work, self.time]
        )
        try:
            await do()
        except LeaseLost:
            return

    async def admit(self) -> None:
        rng, now_ms = self.rng, await self.store.stats.now_ms()
        lane = f"openai/{rng.choice('abc')}"
        made = await self.store.jobs.admit(admission(
            str(rng.random()), model=lane, lane=lane, deadline_s=rng.choice([0.15, 0.6, 60.0]), band="standard",
            limits=rng.choice(["", "2,0,0,1"]), chain=(("openai/d", ""),) if rng.random() < 0.4 else (),
            not_before_ms=rng.choice([None, now_ms + 60]), on_crash=rng.choice(["retry", "fail", "resume"]),
        ))  # fmt: skip
        self.ids.append(made.id)

    async def claim(self) -> None:
        self.held += (await self.store.engine.claim("w", 3, ["openai"], running=self.rng.randrange(2)))[0]

    async def work(self) -> None:
        if not self.held:
            return
        engine, rng = self.store.engine, self.rng
        claim = self.held.pop(rng.randrange(len(self.held)))
        if rng.random() < 0.2:
            await engine.release(claim)
            return
        sent = await engine.dispatch(claim, claim.number("tries") + 1, 100, PRICES)
        if sent.word not in ("ok", "resume"):
            await engine.finish(claim, End("failed", b"", b"", None, kept=False, first_seq=0))
            return
        await asyncio.sleep(rng.choice([0, 0.02]))
        measured = rng.choice(["", " ".join(str(rng.randrange(30)) for _ in range(5))])
        await self.conclude(claim, sent.seq, measured)

    async def conclude(self, claim: Claim, seq: int, measured: str) -> None:
        engine, rng = self.store.engine, self.rng
        match rng.randrange(5):
            case 0:
                await engine.finish(claim, replace(success(seq + 1), measured=measured))
            case 1:
                reason = rng.choice(["provider_rate_limited", "provider_error", "worker_lost"])
                await engine.requeue(claim, rng.choice([REFUSED, BROKEN]), delay_s=rng.choice([0, 0.05]), reason=reason,
                                     brake_s=rng.choice([0, 0.1]), measured=measured)  # fmt: skip
            case 2:
                await engine.attach(claim, "resp_1")
                await engine.hand_over(claim, delay_s=rng.choice([0, 0.05]), reason="stream_broken", measured=measured)
            case 3:
                await engine.append([text_frame(claim, seq + 1, "text")])
            case _:
                return  # its worker is lost

    async def time(self) -> None:
        """What other hands do meanwhile."""
        rng, lanes = self.rng, self.store.lanes
        match rng.randrange(5):
            case 0 if self.ids:
                await self.store.jobs.cancel(rng.choice(self.ids), "t")
            case 1:
                await lanes.learn("openai/a", "3,0,0,0", used=rng.randrange(4), brake_s=rng.choice([0, 0.05]))
            case 2:
                await lanes.switch_lane("openai/b", rng.choice(["pause", "resume"]))
            case 3 if self.ids:
                await self.store.jobs.stuck(rng.choice(self.ids), rng.random())
            case _:
                await self.store.engine.tend()
        await asyncio.sleep(rng.choice([0, 0.03]))


@pytest.mark.parametrize("_run", range(4))
async def test_phases_sum_to_the_total_whatever_became_of_a_job(brief: Store, _run: int) -> None:
    seed = random.SystemRandom().randrange(10**9)
    print(f"seed {seed}")
    walk = Walk(brief, seed)
    await walk.one_that_succeeds()
    for _ in range(150):
        await walk.step()
    await brief.lanes.switch_lane("openai/b", "resume")
    for job_id in walk.ids:
        await brief.jobs.cancel(job_id, "t")
    for job_id in walk.ids:

        async def over(job_id: str = job_id) -> bool:
            await brief.engine.tend()
            job = await brief.jobs.get(job_id, "t")
            if job is not None and job.status == "queued":  # one that resumes waits for a worker to stop the provider
                for claim in (await brief.engine.claim("w", 9, ["openai"]))[0]:
                    await brief.engine.finish(claim, End("cancelled", b"", b"", None, kept=False, first_seq=0))
            return job is not None and job.finished_at is not None

        await until(over, f"the end of {job_id}", timeout_s=60)
    statuses = {(await ended(brief, job_id))[0].status for job_id in walk.ids}
    assert len(walk.ids) > 10
    assert len(statuses) >= 2
