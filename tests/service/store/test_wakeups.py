"""Word of a job: it goes to a worker that can run it."""

from __future__ import annotations

import asyncio

import pytest

from onceq_service.embedded.redis_server import EmbeddedRedis
from onceq_service.store import Store, engine, open_store
from onceq_service.store.engine import Receipt
from tests.service.store.driver import admission, claim_one, dispatch
from tests.waiting import until

REFUSED = Receipt("provider_overloaded", billed=False)


@pytest.mark.parametrize("how", ["post", "delayed", "retry", "release", "resume", "suspect"])
async def test_word_of_a_job_goes_to_a_worker_that_serves_it(
    store: Store, redis_server: EmbeddedRedis, queue: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To one that does not it would be lost, and the job would wait until the next look."""
    monkeypatch.setattr(engine, "BLOCK_S", 30.0)
    job_id = (await store.jobs.admit(admission(band="batch"))).id if how != "post" else ""
    claim = None if how in ("post", "delayed", "resume") else await claim_one(store)
    if how == "delayed":
        await store.jobs.cancel(job_id, "t")
    if how == "resume":
        await store.lanes.switch_band("batch", "pause")
    pipe = store._pipe  # pyright: ignore[reportPrivateUsage]
    await pipe.command("DEL", store.redis_keys("wake", "openai"))
    async with open_store(redis_server.url, queue) as elsewhere:
        for one in (store, elsewhere):
            monkeypatch.setattr(one.engine._blocking, "_timeout_s", 200.0)  # pyright: ignore[reportPrivateUsage]
        others = asyncio.create_task(elsewhere.engine.wait_for_work(["bedrock", "anthropic"], 30))
        await waits(elsewhere)
        ours = asyncio.create_task(store.engine.wait_for_work(["bedrock", "openai"], 30))
        await waits(store)
        match how:
            case "post":
                job_id = (await store.jobs.admit(admission())).id
            case "delayed":
                job_id = (await store.jobs.admit(admission(not_before_ms=await store.stats.now_ms() + 3_600_000))).id
            case "resume":
                await store.lanes.switch_band("batch", "resume")
            case "release":
                assert claim
                await store.engine.release(claim)
            case _:
                assert claim
                await dispatch(store, claim)
                await pipe.command("HSET", store.redis_keys("job", job_id), "crashes", 2 if how == "suspect" else 0)
                await store.engine.requeue(claim, REFUSED, delay_s=0, reason="provider_rate_limited")
        async with asyncio.timeout(20):
            await ours
        assert not others.done()
        others.cancel()
        await pipe.command("RPUSH", store.redis_keys("wake", "bedrock"), "1")  # Redis still has the question
    await store.jobs.cancel(job_id, "t")


async def waits(store: Store) -> None:
    """Returns when Redis has the question for work: what was sent before a PING is done before its answer."""

    async def asked() -> bool:
        return store.engine.listens

    await until(asked, "a worker to ask for work")
    await store._pipe.command("PING")  # pyright: ignore[reportPrivateUsage]
