"""Jobs with `on_disconnect: cancel`: who posts them again or follows their batch is somebody that they go on for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from onceq.wire import Job
from onceq_service.store import Store, StoreFull
from tests.service.store.driver import admission, claim_one, dispatch, success
from tests.service.store.timed import later, open_timed
from tests.stack import running_redis


async def post(store: Store, **changes: Any) -> str:
    """Puts the same question, by the same fingerprint."""
    return (await store.jobs.admit(admission(**({"fp": "f"} | changes)))).id


async def tended(timed: Store, seconds: float, job_id: str, *, batch: str = "") -> Job:
    """The job after so much time, in which an API process tends and `batch` is followed."""
    for _ in range(round(seconds * 10)):
        if batch:
            await timed.batches.watch("t", batch)
        await timed.engine.tend()
        await later(timed, 0.1)
    job = await timed.jobs.get(job_id, "t")
    assert job is not None
    return job


@pytest.mark.parametrize("known_by", [{"fp": "f"}, {"fp": "", "idem": "k"}])
async def test_a_post_of_a_job_that_is_there_renews_its_grace(timed: Store, known_by: dict[str, str]) -> None:
    job_id = await post(timed, grace_s=1.0, **known_by)
    for _ in range(3):
        assert (await tended(timed, 0.9, job_id)).status == "queued"
        assert await post(timed, grace_s=1.0, **known_by) == job_id
    assert (await tended(timed, 1.3, job_id)).status == "cancelled"


@pytest.mark.parametrize(("first_s", "second_s"), [(3.0, 1.0), (1.0, 3.0)])
async def test_of_two_posts_the_longer_grace_holds(timed: Store, first_s: float, second_s: float) -> None:
    job_id = await post(timed, grace_s=first_s)
    await post(timed, grace_s=second_s)
    assert (await tended(timed, 2.0, job_id)).status == "queued"
    assert await timed.jobs.watch(job_id)
    assert (await tended(timed, 2.5, job_id)).status == "queued"
    assert (await tended(timed, 0.8, job_id)).status == "cancelled"


async def test_who_posts_it_without_that_wish_gets_its_answer_whoever_leaves(timed: Store) -> None:
    job_id = await post(timed, grace_s=1.0)
    await post(timed, user="another of the tenant's")
    assert not await timed.jobs.watch(job_id)
    await post(timed, grace_s=1.0)
    assert (await tended(timed, 3.0, job_id)).status == "queued"
    claim = await claim_one(timed)
    await dispatch(timed, claim)
    await timed.engine.finish(claim, success(3))


async def test_a_post_and_its_join_of_one_turn_are_as_one_after_the_other(timed: Store) -> None:
    first, second = await asyncio.gather(post(timed, grace_s=1.0), post(timed, queue_s=60.0))
    assert first == second
    assert (await tended(timed, 3.0, first)).status == "queued"
    await timed.jobs.cancel(first, "t")


async def test_jobs_of_a_batch_go_on_while_it_is_followed_and_for_their_grace_from_then(timed: Store) -> None:
    job_id = await post(timed, grace_s=1.0, batch="b")
    other = await post(timed, fp="", prompt="in another batch", grace_s=1.0, batch="c")
    assert (await tended(timed, 3.0, job_id, batch="b")).status == "queued"
    assert (await tended(timed, 0, other)).status == "cancelled"
    late = await post(timed, fp="", prompt="came into it late", grace_s=2.0, batch="b")
    assert (await tended(timed, 0.8, job_id)).status == "queued"
    assert (await tended(timed, 0.6, job_id)).status == "cancelled"
    assert (await tended(timed, 0, late)).status == "queued"
    assert (await tended(timed, 1.0, late)).status == "cancelled"


async def test_many_that_are_followed_keep_none_that_is_not_for_long(timed: Store) -> None:
    followed = [post(timed, fp="", prompt=str(n), grace_s=1.0, batch="b") for n in range(100)]
    await asyncio.gather(*followed)
    left = await post(timed, fp="", prompt="left", grace_s=1.0)
    assert (await tended(timed, 1.3, left, batch="b")).status == "cancelled"
    assert (await tended(timed, 0, await followed_one(timed))).status == "queued"


async def followed_one(timed: Store) -> str:
    async for ids in timed.batches.live_ids("t", "b"):
        if ids:
            return ids[0]
    raise AssertionError("no job of the batch lives")


async def test_who_follows_a_batch_writes_nothing_where_no_job_has_a_grace(timed: Store) -> None:
    await post(timed, batch="b")
    await timed.batches.watch("t", "b")
    pipe = timed._pipe  # pyright: ignore[reportPrivateUsage]
    assert await pipe.command("EXISTS", timed.redis_keys("batchseen", "t", "b")) == 0


async def test_who_follows_is_heard_where_redis_takes_nothing_more(queue: str) -> None:
    with running_redis() as redis:
        async with open_timed(redis.url, queue) as timed:
            job_id = await post(timed, grace_s=1.0)
            of_batch = await post(timed, fp="", prompt="in a batch", grace_s=1.0, batch="b")
            for _ in range(3):
                await filled(timed, 1)
                with pytest.raises(StoreFull):
                    await post(timed, fp="", prompt="one more")
                await timed.jobs.watch(job_id)
                await timed.batches.watch("t", "b")
                await filled(timed, 0)
                assert (await tended(timed, 0.9, job_id)).status == "queued"
                assert (await tended(timed, 0, of_batch)).status == "queued"


async def filled(timed: Store, maxmemory: int) -> None:
    """Redis has only so many bytes from now on, 0: any number."""
    await timed._pipe.command("CONFIG", "SET", "maxmemory", maxmemory)  # pyright: ignore[reportPrivateUsage]
