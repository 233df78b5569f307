"""Somebody is there: while a job with `on_disconnect: cancel` is followed or polled, alone or in a batch, its cancel is
put off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from onceq_service.api.service import Service, cancel_all
from onceq_service.store import StoreError

RENEWALS: Final = 4
"""How often a follower says in its job's grace that it is still there."""
LEAST_GRACE_S: Final = 1.0
"""The shortest `disconnect_grace_s` of the contract: who follows a batch does not know what its jobs have, or will."""
Say = Callable[[], Awaitable[bool]]
"""Says that somebody is there; False where nobody needs to say so any more."""


@asynccontextmanager
async def watched(service: Service, job_id: str, grace_ms: int) -> AsyncGenerator[None]:
    """Puts the cancel off until the block is left, and one grace more; nothing for jobs that go on alone (grace 0)."""
    if not grace_ms:
        yield
        return
    async with _saying(partial(service.store.jobs.watch, job_id), grace_ms / 1000):
        yield


@asynccontextmanager
async def batch_watched(service: Service, tenant: str, batch: str) -> AsyncGenerator[None]:
    """Says that somebody follows all jobs of a batch, those that come into it meanwhile too."""
    async with _saying(partial(service.store.batches.watch, tenant, batch), LEAST_GRACE_S):
        yield


@asynccontextmanager
async def _saying(say: Say, grace_s: float) -> AsyncGenerator[None]:
    renewing = asyncio.create_task(_renew(say, grace_s / RENEWALS), name="presence")
    try:
        yield
    finally:
        await cancel_all([renewing])


async def _renew(say: Say, every_s: float) -> None:
    """Ends early where a job has lost its grace: somebody posted it who wants its answer whoever follows it."""
    try:
        while True:
            if not await _said(say):
                return
            await asyncio.sleep(every_s)
    finally:
        await _said(say)  # the grace begins when the follower leaves, not at its last sign of life


async def _said(say: Say) -> bool:
    try:
        return await say()
    except StoreError:  # while Redis is away nothing is cancelled either
        return True
