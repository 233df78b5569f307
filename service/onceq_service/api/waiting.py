"""Waiting for a job's end: by following its event log, so without asking Redis again and again."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress

from starlette.types import Scope

from onceq.wire import TERMINAL
from onceq_service.api.connection import stopping
from onceq_service.api.presence import watched
from onceq_service.api.service import Service
from onceq_service.store import ApiKey
from onceq_service.store.views import Fields


async def wait_for_end(service: Service, key: ApiKey, job_id: str, timeout_s: float, scope: Scope) -> Fields | None:
    """The job's fields at its end, or as they are after `timeout_s`, or when this process stops; None: no such job."""
    fields = await service.store.jobs.fields(job_id, key.tenant)
    if fields is None or has_ended(fields):
        return fields
    if timeout_s <= 0:
        if "grace_ms" in fields:
            await service.store.jobs.watch(job_id)
        return fields
    ending = asyncio.ensure_future(_follow_to_end(service, job_id, int(fields["seq"])))
    async with watched(service, job_id, fields):
        with stopping(scope, ending.cancel):
            await asyncio.wait((ending,), timeout=timeout_s)
    ending.cancel()
    with suppress(asyncio.CancelledError):
        await ending
    return await service.store.jobs.fields(job_id, key.tenant)


def has_ended(fields: Fields) -> bool:
    """Whether a job is in its final state."""
    return fields["state"].decode() in TERMINAL


async def _follow_to_end(service: Service, job_id: str, after: int) -> None:
    async with aclosing(service.store.events.follow(job_id, after)) as frames:
        async for _ in frames:
            pass
