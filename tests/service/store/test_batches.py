"""How long a batch's log of ends stays: while one of its jobs lives, and as long as a result after the last end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from onceq_service.embedded.redis_server import EmbeddedRedis
from onceq_service.store import Retention, Store, StoreError, open_store
from onceq_service.store.batches import BatchState
from onceq_service.store.engine import Claim
from tests.conftest import check_lifetimes
from tests.service.store.driver import admission, claim_one, dispatch, success
from tests.service.store.timed import later, lived_long

STAYS = -1
"""What Redis says is the lifetime of a key that has none."""
DAY_S = 86_400


async def admit(store: Store, prompt: str = "hello", batch: str = "b", **changes: Any) -> str:
    return (await store.jobs.admit(admission(prompt, batch=batch, **changes))).id


async def command(store: Store, *words: Any) -> Any:
    return await store._pipe.command(*words)  # pyright: ignore[reportPrivateUsage]


async def lifetime(store: Store, batch: str = "b") -> int:
    """In seconds; `STAYS` without an end."""
    return await command(store, "TTL", store.redis_keys("batch", "t", batch))


async def lapses(store: Store, batch: str = "b") -> bool:
    return DAY_S - 60 < await lifetime(store, batch) <= DAY_S


async def finish(store: Store, _: str = "", claim: Claim | None = None) -> None:
    claim = claim or await claim_one(store)
    await dispatch(store, claim)
    await store.engine.finish(claim, success(3))


async def cancel(store: Store, job_id: str) -> None:
    assert await store.jobs.cancel(job_id, "t") == "cancelled"


async def stop(store: Store, job_id: str) -> None:
    """Cancels it when a worker has it, which hands it back."""
    claim = await claim_one(store)
    assert await store.jobs.cancel(job_id, "t") == "requested"
    await store.engine.release(claim)


async def expire(store: Store, _: str) -> None:
    await later(store, 3_601)
    await store.engine.tend()


async def lose(store: Store, job_id: str) -> None:
    """Its worker dies with the call."""
    await dispatch(store, await claim_one(store))
    await lived_long(store)
    await command(store, "ZADD", store.redis_keys("leases"), await later(store, 0) - 1, job_id)
    await store.engine.tend()


WAYS: list[Callable[[Store, str], Awaitable[None]]] = [finish, cancel, stop, expire, lose]


async def test_numbers_go_on_however_long_the_next_end_takes(redis_server: EmbeddedRedis, queue: str) -> None:
    async with open_store(redis_server.url, queue, Retention(result_s=1)) as store:
        await admit(store, "first")
        first = await claim_one(store)
        second = await admit(store, "second")
        await finish(store, claim=first)
        await asyncio.sleep(1.2)
        assert await store.batches.state("t", "b") == BatchState(ended=1, live=1)
        await check_lifetimes(store)
        await finish(store)
        told = b"".join([chunk async for chunk in store.batches.follow("t", "b", 1)])
        assert told.startswith(b"id: 2\n")
        assert second.encode() in told


@pytest.mark.parametrize("end", WAYS)
async def test_the_log_lapses_after_the_last_end_in_whatever_way_it_comes(
    timed: Store, end: Callable[[Store, str], Awaitable[None]]
) -> None:
    await admit(timed, "first")
    first = await claim_one(timed)
    last = await admit(timed, "last", on_crash="fail")
    await finish(timed, claim=first)
    assert await lifetime(timed) == STAYS
    await end(timed, last)
    assert await timed.batches.state("t", "b") == BatchState(ended=2, live=0)
    assert await lapses(timed)


async def test_a_batch_of_jobs_that_had_ended_before_lapses_and_stays_when_one_comes_that_lives(store: Store) -> None:
    await admit(store, batch="", fp="f")
    await finish(store)
    await admit(store, fp="f")
    assert await store.batches.state("t", "b") == BatchState(ended=1, live=0)
    assert await lapses(store)
    running = await admit(store, "another", fp="g", batch="")
    assert await admit(store, "another", fp="g") == running
    assert await lifetime(store) == STAYS
    await finish(store)
    assert await lapses(store)


async def test_the_log_of_a_version_that_let_it_lapse_stays_from_the_next_end_on(store: Store) -> None:
    for n in range(3):
        await admit(store, f"{n}")
    await finish(store)
    await command(store, "EXPIRE", store.redis_keys("batch", "t", "b"), DAY_S)
    await finish(store)
    assert await lifetime(store) == STAYS
    await finish(store)
    assert await lapses(store)


async def test_a_batch_whose_last_live_job_leaves_it_lapses(store: Store) -> None:
    """It leaves its oldest batch for the 33rd."""
    await admit(store, "first")
    first = await claim_one(store)
    await admit(store, "last", fp="f")
    await finish(store, claim=first)
    for n in range(31):
        await admit(store, "last", fp="f", batch=f"b{n}")
    assert await lifetime(store) == STAYS
    await admit(store, "last", fp="f", batch="one-more")
    assert await store.batches.state("t", "b") == BatchState(ended=1, live=0)
    assert await lapses(store)
    await finish(store)


async def test_a_batch_whose_only_new_job_fails_to_be_admitted_lapses(store: Store) -> None:
    await admit(store)
    await finish(store)
    await command(store, "LPUSH", store.redis_keys("watched"), "no sorted set")
    with pytest.raises(StoreError):
        await admit(store, "another", grace_s=5.0)
    await command(store, "DEL", store.redis_keys("watched"))
    assert await store.batches.state("t", "b") == BatchState(ended=1, live=0)
    assert await lapses(store)
