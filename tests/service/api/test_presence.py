"""A job with `on_disconnect: cancel` goes on for its whole grace from when its last follower left."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

from onceq_service.api.presence import watched
from onceq_service.api.service import Service
from onceq_service.store import Store
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
        left_ms = await store.sums.now_ms()
    assert await ends_ms(store, job_id) >= left_ms + 3_600_000
    await store.jobs.cancel(job_id, "t")


async def ends_ms(store: Store, job_id: str) -> int:
    """When the job is cancelled if nobody comes."""
    score = await store._pipe.command("ZSCORE", store.names("watched"), job_id)  # pyright: ignore[reportPrivateUsage]
    return int(float(score))
