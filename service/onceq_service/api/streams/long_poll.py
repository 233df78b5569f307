"""Waiting for a job's end: by following its event log, so without asking Redis again and again."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from fastapi import Request

from onceq.wire import TERMINAL
from onceq_service.api.auth import CHALLENGE
from onceq_service.api.http.connection import until_end
from onceq_service.api.http.problems import Refused
from onceq_service.api.service import Service, cancel_all
from onceq_service.api.streams.presence import watched
from onceq_service.store import ApiKey
from onceq_service.store.views import Fields


async def wait_for_end(service: Service, key: ApiKey, job_id: str, timeout_s: float, request: Request) -> Fields | None:
    """What is shown of the job at its end, or as it is after `timeout_s`, or when the client leaves or this process
    stops; None: no such job. Raises Refused (401) where the key was revoked meanwhile."""
    fields = await service.store.jobs.shown(job_id, key.tenant)
    if fields is None or has_ended(fields):
        return fields
    if timeout_s <= 0:
        if "grace_ms" in fields:
            await service.store.jobs.watch(job_id)
        return fields
    ending = asyncio.create_task(_follow_to_end(service, job_id, int(fields["seq"])), name="long-poll")
    try:
        async with watched(service, job_id, int(fields.get("grace_ms", 0))):
            with until_end(request.scope, ending.cancel):
                await asyncio.wait((ending,), timeout=timeout_s)
    finally:
        await cancel_all([ending])
    if key.id in service.revoked:
        raise Refused("unauthorized", f"API key {key.id} was revoked: send another one.", headers=CHALLENGE)
    return await service.store.jobs.shown(job_id, key.tenant)


def has_ended(fields: Fields) -> bool:
    """Whether a job is in its final state."""
    return fields["state"].decode() in TERMINAL


async def _follow_to_end(service: Service, job_id: str, after: int) -> None:
    async with aclosing(service.store.events.follow(job_id, after)) as frames:
        async for _ in frames:
            pass
