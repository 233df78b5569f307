"""Somebody is there: while a job with `on_disconnect: cancel` is followed or polled, its cancel is put off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Final

from onceq_service.api.service import Service, cancel_all
from onceq_service.store import StoreError

RENEWALS: Final = 4
"""How often a follower says in its job's grace that it is still there."""


@asynccontextmanager
async def watched(service: Service, job_id: str, grace_ms: int) -> AsyncGenerator[None]:
    """Puts the cancel off until the block is left, and one grace more; nothing for jobs that go on alone (grace 0)."""
    if not grace_ms:
        yield
        return
    renewing = asyncio.create_task(_renew(service, job_id, grace_ms / 1000), name="presence")
    try:
        yield
    finally:
        await cancel_all([renewing])


async def _renew(service: Service, job_id: str, grace_s: float) -> None:
    try:
        while True:
            await _watch(service, job_id)
            await asyncio.sleep(grace_s / RENEWALS)
    finally:
        await _watch(service, job_id)  # the grace begins when the follower leaves, not at its last sign of life


async def _watch(service: Service, job_id: str) -> None:
    with suppress(StoreError):  # while Redis is away nothing is cancelled either
        await service.store.jobs.watch(job_id)
