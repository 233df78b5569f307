"""A job with `on_disconnect: cancel` goes on for its whole grace from when its last follower left."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

import msgspec

from onceq_service.api.service import Service
from onceq_service.api.streams.presence import watched
from onceq_service.store import Store
from tests.service.api.kit import JOBS, JSON, Http, ask
from tests.service.store.driver import admission
from tests.waiting import until


async def test_the_grace_begins_when_the_follower_leaves_not_at_its_last_sign_of_life(store: Store) -> None:
    job_id = (await store.jobs.admit(admission(grace_s=3600.0))).id
    first = await ends_ms(store, job_id)
    await asyncio.sleep(0.01)

    async def came() -> bool:
        return await ends_ms(store, job_id) > first

    async with watched(cast("Service", SimpleNamespace(store=store)), job_id, 3_600_000):
        await until(came, "the follower to be known")
        await asyncio.sleep(0.01)
        left_ms = await store.stats.now_ms()
    assert await ends_ms(store, job_id) >= left_ms + 3_600_000
    await store.jobs.cancel(job_id, "t")


async def test_who_follows_a_job_that_lost_its_grace_says_no_more(store: Store) -> None:
    job_id = (await store.jobs.admit(admission(grace_s=3600.0, fp="f"))).id

    async def silent() -> bool:
        return "presence" not in {task.get_name() for task in asyncio.all_tasks()}

    async with watched(cast("Service", SimpleNamespace(store=store)), job_id, 40):
        await asyncio.sleep(0.1)
        assert not await silent()
        await store.jobs.admit(admission(fp="f"))
        await until(silent, "its follower to hear that there is no grace any more")
    await store.jobs.cancel(job_id, "t")


def test_a_job_is_followed_by_who_follows_its_batch(client: Http) -> None:
    wish = {"on_disconnect": "cancel", "disconnect_grace_s": 2.0}
    body = {"batch": "b", "items": [{"job": ask(ttft_ms=4500) | wish}]}
    answer = client.post(f"{JOBS}/batch", content=msgspec.json.encode(body), headers=JSON)
    (item,) = answer.json()["items"]
    assert client.get("/v1/events", params={"batch": "b"}).status_code == 200
    assert client.job(item["job"]["id"]).status == "succeeded"


async def ends_ms(store: Store, job_id: str) -> int:
    """When the job is cancelled if nobody comes."""
    score = await store._pipe.command("ZSCORE", store.redis_keys("watched"), job_id)  # pyright: ignore[reportPrivateUsage]
    return int(float(score))
