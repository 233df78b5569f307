"""POST /v1/jobs: one body read, one validation, one store call, one answer from a template. Most posts take the shorter
way of fast_path.py, which uses the same parts."""

from __future__ import annotations

import time
from dataclasses import dataclass

from msgspec import structs
from starlette.types import Receive

from onceq.wire import JobRequest, SubmittedJob
from onceq_service.api.auth import require
from onceq_service.api.http.body import Heads, parse, read_json
from onceq_service.api.http.problems import store_full
from onceq_service.api.http.replies import JSON, Reply
from onceq_service.api.service import Service
from onceq_service.api.submission import codec, max_cost, receipt
from onceq_service.api.submission.admission import BoundedRequest, admission, idempotency_key
from onceq_service.api.submission.allowance import put
from onceq_service.api.submission.quote import in_a_receipt
from onceq_service.store import Admission, ApiKey, CostTooHigh, Hasher, Pace
from onceq_service.store.admission import Admitted, values_of


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
    request = codec.read(body) or parse(JobRequest, body)
    return reply_of(await admit(service, key, idem_key, request, await service.hasher()))


def reply_of(accepted: Accepted) -> Reply:
    """The 202."""
    replayed = b"false" if accepted.disposition == "created" else b"true"
    location = (b"location", b"/v1/jobs/" + accepted.id.encode())
    return Reply(202, accepted.body, (JSON, location, (b"idempotent-replayed", replayed)))


async def admit(
    service: Service, key: ApiKey, idem_key: str | None, request: JobRequest, hasher: Hasher, *,
    retry_of: str = "", batch: str = "", create: bool = True,
) -> Accepted:  # fmt: skip
    """Creates, joins or replays one job; raises Refused, StoreError.

    `retry_of`: the job whose question it asks. `batch`: the one that it is followed in. Not `create`: only one that is
    there, else JobNotFound.
    """
    read_at = time.monotonic()
    if service.full:
        raise store_full()
    models = await service.models_of(request)
    pace = await service.pace(models[0].model)
    await service.prices()
    bounded = max_cost.with_bounds(service.tariff, request, models, service.defaults.max_calls)
    asked = structs.replace(
        admission(bounded, key, idem_key, models, hasher, service.defaults, retry_of), batch=batch, create=create
    )
    try:
        asked, made = await put(service, asked, bounded, read_at)
    except CostTooHigh as exc:
        raise max_cost.too_expensive(bounded) from exc
    return await accepted(service, bounded, asked, pace, made)


async def accepted(service: Service, bounded: BoundedRequest, asked: Admission, pace: Pace, made: Admitted) -> Accepted:
    """What the store's answer comes to; raises StoreError."""
    if made.disposition == "created":
        return Accepted(made.id, "created", created(service, bounded, asked, pace, made.created_ms))
    known: SubmittedJob = await service.store.jobs.submitted(made)
    return Accepted(made.id, made.disposition, known.model_dump_json().encode())


def created(service: Service, bounded: BoundedRequest, asked: Admission, pace: Pace, created_ms: int) -> bytes:
    """The 202's body for a new job."""
    told = in_a_receipt(bounded, pace, service.free_slots(asked.provider))
    return receipt.created(asked, service.store.jobs.durability, told, values_of(asked), created_ms, bounded.upper)
