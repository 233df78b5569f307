"""The heartbeat's thread: a busy worker keeps its jobs, a dead one loses them, and both hear what became of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from redis import Redis

from onceq_service.embedded.redis_server import EmbeddedRedis
from onceq_service.store import Retention, Store, open_store, scripts
from onceq_service.store.engine import Claim
from onceq_service.store.heartbeat import HeartbeatClient
from onceq_service.worker import heartbeat
from onceq_service.worker.claimed import ClaimedJob, ClaimedJobs
from onceq_service.worker.heartbeat import Heartbeat
from tests.faults.clock import clocked
from tests.service.store.driver import admission, claim_one, dispatch, success
from tests.service.store.timed import lived_long, open_timed
from tests.waiting import until, wait_until

LEASE_S = 1.0
LEASE_MS = round(LEASE_S * 1000)


@pytest.fixture
async def brief(redis_server: EmbeddedRedis, queue: str) -> AsyncGenerator[Store]:
    """A store whose leases last a second."""
    async with open_store(redis_server.url, queue, Retention(lease_s=LEASE_S)) as store:
        yield store


@pytest.fixture
async def timed(redis_server: EmbeddedRedis, queue: str, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Store]:
    """The same in a time that passes only where the test says so, heartbeats included."""
    monkeypatch.setattr(scripts, "BEAT", clocked(scripts.BEAT))
    async with open_timed(redis_server.url, queue, Retention(lease_s=LEASE_S)) as store:
        yield store


@asynccontextmanager
async def beating(redis: EmbeddedRedis, queue: str, claim: Claim) -> AsyncGenerator[ClaimedJob]:
    """A heartbeat that holds one job."""
    claimed = ClaimedJobs(1)
    job = claimed.add(claim)
    beat = Heartbeat(HeartbeatClient(redis.url, queue, LEASE_MS), "w1", claimed, ["openai"], LEASE_S)
    beat.start()
    try:
        yield job
    finally:
        await asyncio.to_thread(beat.stop)


async def other_worker_sees(store: Store, job_id: str, state: str) -> None:
    """Tends as an API process does, until the job is in that state."""

    async def look() -> bool:
        await store.engine.tend()
        job = await store.jobs.get(job_id, "t")
        return job is not None and job.status == state

    await until(look, f"{job_id} to be {state}")


async def running(store: Store) -> Claim:
    await store.jobs.admit(admission())
    claim = await claim_one(store)
    await dispatch(store, claim)
    return claim


def two_leases_pass(redis: EmbeddedRedis, store: Store, claim: Claim) -> None:
    """Blocks whoever calls it. Each half of a lease begins when the thread has renewed it within the one before."""
    with cast("Any", Redis).from_url(redis.url) as client:  # untyped arguments
        for _ in range(4):
            ends = client.incrby(store.redis_keys("clock"), LEASE_MS // 2) + LEASE_MS
            wait_until(lambda ends=ends: client.zscore(store.redis_keys("leases"), claim.id) == ends, "the next beat")


async def test_a_blocked_event_loop_keeps_its_jobs(redis_server: EmbeddedRedis, queue: str, timed: Store) -> None:
    """The loop stands still for longer than a lease; the thread goes on renewing it."""
    claim = await running(timed)
    async with beating(redis_server, queue, claim) as job:
        two_leases_pass(redis_server, timed, claim)
        await lived_long(timed)
        await timed.engine.tend()
        assert job.reason is None
        assert await timed.engine.finish(claim, success(3)) == ("ok", 3)


async def test_a_loop_that_is_dead_for_too_long_loses_its_jobs(
    redis_server: EmbeddedRedis, queue: str, brief: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "LOOP_DEAD_S", -1.0)  # from the first moment on
    claim = await running(brief)
    async with beating(redis_server, queue, claim):
        await other_worker_sees(brief, claim.id, "queued")


async def test_a_worker_hears_that_its_job_was_cancelled(redis_server: EmbeddedRedis, queue: str, brief: Store) -> None:
    claim = await running(brief)
    async with beating(redis_server, queue, claim) as job:
        assert await brief.jobs.cancel(claim.id, "t") == "requested"

        async def heard() -> bool:
            return job.reason == "cancel"

        await until(heard, "the heartbeat to say so")
        await brief.engine.finish(claim, success(3))


async def test_a_worker_hears_that_its_job_is_somebody_elses(
    redis_server: EmbeddedRedis, queue: str, brief: Store
) -> None:
    claim = await running(brief)
    await other_worker_sees(brief, claim.id, "queued")
    again = await claim_one(brief, "w2")
    async with beating(redis_server, queue, claim) as job:

        async def heard() -> bool:
            return job.reason == "lost"

        await until(heard, "the heartbeat to say so")
    await dispatch(brief, again, 2)
    await brief.engine.finish(again, success(5))


async def test_a_heartbeat_goes_on_after_redis_was_away(queue: str, brief: Store, redis_server: EmbeddedRedis) -> None:
    """Its first beats find nothing at that address; the thread lives on and stops when it is told to."""
    claim = await running(brief)
    claimed = ClaimedJobs(1)
    claimed.add(claim)
    beat = Heartbeat(HeartbeatClient("redis://127.0.0.1:1/0", queue, 1000), "w1", claimed, ["openai"], LEASE_S)
    beat.start()
    await asyncio.sleep(LEASE_S)
    assert beat._thread.is_alive()  # pyright: ignore[reportPrivateUsage] - nothing else shows it
    await asyncio.to_thread(beat.stop)
    assert not beat._thread.is_alive()  # pyright: ignore[reportPrivateUsage]
    await brief.engine.finish(claim, success(3))
