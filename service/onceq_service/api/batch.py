"""POST /v1/jobs/batch: up to 1,000 jobs in one request, each with its own key and its own outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, JsonValue, ValidationError
from pydantic_core import to_json
from starlette.types import Receive

from onceq.wire import MAX_BATCH, BatchId, BatchItem, BatchRequest, Request
from onceq_service.api.auth import require
from onceq_service.api.body import Heads, parse, read_json
from onceq_service.api.problems import Refused, answer_to, invalid
from onceq_service.api.replies import JSON, Reply
from onceq_service.api.service import Service
from onceq_service.api.submit import admit
from onceq_service.store import ApiKey, Seal


class _Shape(Request):
    """A batch whose items are looked at one by one."""

    batch: BatchId | None = None
    items: Annotated[list[JsonValue], Field(min_length=1, max_length=MAX_BATCH)]


async def submit_batch(service: Service, key: ApiKey, heads: Heads, receive: Receive) -> Reply:
    """Admits all items at once, so that they share pipelines; 200 with an outcome for each, in their order."""
    require(key, "submit")
    batch, items = read_items(await read_json(heads, receive))
    seal = await service.seal()
    outcomes = await asyncio.gather(*(_outcome(service, key, item, seal, batch) for item in items))
    return Reply(200, b'{"items":[' + b",".join(outcomes) + b"]}", (JSON,))


def read_items(body: bytes) -> tuple[str, Sequence[BatchItem | Refused]]:
    """The batch's id, and each item or what is wrong with it; raises Refused (400, 422) when the batch is not one."""
    try:
        request = BatchRequest.model_validate_json(body)
    except ValidationError:
        shape = parse(_Shape, body)
        return shape.batch or "", [_read_item(item) for item in shape.items]
    return request.batch or "", request.items


def _read_item(item: JsonValue) -> BatchItem | Refused:
    try:
        return BatchItem.model_validate_json(to_json(item, inf_nan_mode="constants"))
    except ValidationError as exc:
        return invalid(exc)


async def _outcome(service: Service, key: ApiKey, item: BatchItem | Refused, seal: Seal, batch: str) -> bytes:
    if isinstance(item, Refused):
        return _problem(item)
    try:
        accepted = await admit(service, key, item.idempotency_key, item.job, seal, batch=batch, create=item.create)
    except Exception as exc:  # noqa: BLE001 - one item's trouble, whatever it is, is not the others'
        return _problem(answer_to(exc, "an item of a batch"))
    return b'{"job":' + accepted.body + b',"problem":null}'


def _problem(refused: Refused) -> bytes:
    return b'{"job":null,"problem":' + refused.problem().model_dump_json().encode() + b"}"
