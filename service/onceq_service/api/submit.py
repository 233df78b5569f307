"""POST /v1/jobs: one body read, one validation, one store call, one answer from a template. Most posts take the shorter
way of straight.py, which uses the same parts."""

from __future__ import annotations

import time
from dataclasses import dataclass

from msgspec import structs
from starlette.types import Receive

from onceq.wire import JobRequest, SubmittedJob
from onceq_service.api import bounds, plain, receipt
from onceq_service.api.admission import Wanted, admission, idempotency_key
from onceq_service.api.allowance import put
from onceq_service.api.auth import require
from onceq_service.api.body import Heads, parse, read_json
from onceq_service.api.problems import store_full
from onceq_service.api.quote import in_a_receipt
from onceq_service.api.replies import JSON, Reply
from onceq_service.api.service import Service
from onceq_service.store import Admission, ApiKey, CostTooHigh, Pace, Seal
from onceq_service.store.admission import Admitted, own_of


@dataclass(frozen=True, slots=True)
class Accepted:
    """An admitted request: the job's id, what became of it, and the 202's body."""

    id: str
    disposition: str
    body: bytes


async def submit(service: Service, key: ApiKey, heads: Heads, receive: Receive) -> Reply:
    """The whole request; raises Refused, StoreError, ClientGone."""
    require(key, "submit")
    idem_key = idempotency_key(heads.get(b"idempotency-key"))
    body = await read_json(heads, receive)
    request = plain.read(body) or parse(JobRequest, body)
    return reply_of(await admit(service, key, idem_key, request, await service.seal()))


def reply_of(accepted: Accepted) -> Reply:
    """The 202."""
    replayed = b"false" if accepted.disposition == "created" else b"true"
    location = (b"location", b"/v1/jobs/" + accepted.id.encode())
    return Reply(202, accepted.body, (JSON, location, (b"idempotent-replayed", replayed)))


async def admit(
    service: Service, key: ApiKey, idem_key: str | None, request: JobRequest, seal: Seal, *,
    retry_of: str = "", batch: str = "", create: bool = True,
) -> Accepted:  # fmt: skip
    """Creates, joins or replays one job; raises Refused, StoreError.

    `retry_of`: the job whose question it asks. `batch`: the one that it is followed in. Not `create`: only one that is
    there, else NotThere.
    """
    read_at = time.monotonic()
    if service.full:
        raise store_full()
    models = await service.models_of(request)
    pace = await service.pace(models[0].model)
    await service.prices()
    wanted = bounds.wanted(service.tariff, request, models, service.defaults.max_calls)
    asked = structs.replace(
        admission(wanted, key, idem_key, models, seal, service.defaults, retry_of), batch=batch, create=create
    )
    try:
        asked, made = await put(service, asked, wanted, read_at)
    except CostTooHigh as exc:
        raise bounds.too_dear(wanted) from exc
    return await accepted(service, wanted, asked, pace, made)


async def accepted(service: Service, wanted: Wanted, asked: Admission, pace: Pace, made: Admitted) -> Accepted:
    """What the store's answer comes to; raises StoreError."""
    if made.disposition == "created":
        return Accepted(made.id, "created", created(service, wanted, asked, pace, made.created_ms))
    known: SubmittedJob = await service.store.jobs.submitted(made)
    return Accepted(made.id, made.disposition, known.model_dump_json().encode())


def created(service: Service, wanted: Wanted, asked: Admission, pace: Pace, created_ms: int) -> bytes:
    """The 202's body for a new job."""
    told = in_a_receipt(wanted, pace, service.free_slots(asked.provider))
    return receipt.created(asked, service.store.jobs.durability, told, own_of(asked), created_ms, wanted.upper)
