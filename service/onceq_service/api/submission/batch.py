"""POST /v1/jobs/batch: up to 1,000 jobs in one request, each with its own key and its own outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Annotated, Final

import msgspec
from pydantic import FailFast, Field, JsonValue, ValidationError
from pydantic_core import to_json
from starlette.types import Receive

from onceq.wire import MAX_BATCH, BatchId, BatchItem, BatchRequest, Request
from onceq_service.api.auth import require
from onceq_service.api.http.body import Heads, read_json, validated
from onceq_service.api.http.problems import MAX_ERRORS, Refused, answer_to, invalid, invalid_field
from onceq_service.api.http.replies import JSON, Reply
from onceq_service.api.http.value_count import MOST_VALUES, are_more, must_be_few, must_be_json, too_many
from onceq_service.api.service import Service
from onceq_service.api.submission.submit import admit
from onceq_service.store import ApiKey, Hasher

MOST_IN_ALL: Final = 20 * MOST_VALUES
"""Values of a whole batch: 8 bytes each of the largest one."""
MOST_BESIDE: Final = 65_536
"""Bytes of a batch that are of no item: its id, what parts the items, and members that it does not have."""
MOST_WRONG: Final = MAX_BATCH * MAX_ERRORS
"""Errors of all items, as many as could be named."""


class _Sound(BatchRequest):
    """A batch in which nothing is wrong; what is, is found out item by item."""

    items: Annotated[list[BatchItem], Field(min_length=1, max_length=MAX_BATCH), FailFast()]


class _Shape(Request):
    """A batch whose items are looked at one by one."""

    batch: BatchId | None = None
    items: Annotated[list[JsonValue], Field(min_length=1, max_length=MAX_BATCH)]


class _Pieces(msgspec.Struct):
    """A batch whose items are bytes still."""

    items: list[msgspec.Raw]


async def submit_batch(service: Service, key: ApiKey, heads: Heads, receive: Receive) -> Reply:
    """Admits all items at once, so that they share pipelines; 200 with an outcome for each, in their order."""
    require(key, "submit")
    batch, items = read_items(await read_json(heads, receive))
    hasher = await service.hasher()
    outcomes = await asyncio.gather(*(_outcome(service, key, item, hasher, batch) for item in items))
    return Reply(200, b'{"items":[' + b",".join(outcomes) + b"]}", (JSON,))


def read_items(body: bytes) -> tuple[str, Sequence[BatchItem | Refused]]:
    """The batch's id, and each item or what is wrong with it; raises Refused (400, 422) when the batch is not one."""
    body, crowded = _without_crowded(body)
    request = None if crowded else _sound(body)
    if request is not None:
        return request.batch or "", request.items
    shape = validated(_Shape, body)
    return shape.batch or "", _read_each(shape.items, crowded)


def _without_crowded(body: bytes) -> tuple[bytes, Collection[int]]:
    """The batch with null for items that have too many values, and which these are; raises Refused when the whole batch
    has, or what is beside its items."""
    if not are_more(body):
        return body, ()
    must_be_few(body, MOST_IN_ALL)
    must_be_json(body)
    try:
        items = [bytes(item) for item in msgspec.json.decode(body, type=_Pieces).items]
    except msgspec.ValidationError:
        raise too_many() from None
    if len(body) - sum(map(len, items)) > MOST_BESIDE:
        raise invalid_field(
            "", f"it has more than {MOST_BESIDE:,} bytes beside its items; send `batch` and `items` alone"
        )
    crowded = {n for n, item in enumerate(items) if are_more(item)}
    for item in {items[n] for n in crowded}:
        body = body.replace(item, b"null")
    return body, crowded


def _sound(body: bytes) -> BatchRequest | None:
    try:
        return _Sound.model_validate_json(body)
    except ValidationError:
        return None


def _read_each(items: Sequence[JsonValue], crowded: Collection[int]) -> Sequence[BatchItem | Refused]:
    found: list[BatchItem | Refused] = []
    wrong = 0
    for n, item in enumerate(items):
        read = too_many() if n in crowded else _read_item(item)
        if isinstance(read, ValidationError):
            wrong += read.error_count()
            if wrong > MOST_WRONG:
                raise invalid_field(
                    "items", f"up to item {n} more than {MOST_WRONG:,} things are wrong; mend these first"
                )
            read = _refused(read, item)
        found.append(read)
    return found


def _refused(exc: ValidationError, item: JsonValue) -> Refused:
    return invalid(exc, BatchItem, lambda: item)


def _read_item(item: JsonValue) -> BatchItem | ValidationError:
    try:
        return BatchItem.model_validate_json(to_json(item, inf_nan_mode="constants"))
    except ValidationError as exc:
        return exc


async def _outcome(service: Service, key: ApiKey, item: BatchItem | Refused, hasher: Hasher, batch: str) -> bytes:
    if isinstance(item, Refused):
        return _problem(item)
    try:
        accepted = await admit(service, key, item.idempotency_key, item.job, hasher, batch=batch, create=item.create)
    except Exception as exc:  # noqa: BLE001 - one item's trouble, whatever it is, is not the others'
        return _problem(answer_to(exc, "an item of a batch"))
    return b'{"job":' + accepted.body + b',"problem":null}'


def _problem(refused: Refused) -> bytes:
    return b'{"job":null,"problem":' + refused.problem().model_dump_json().encode() + b"}"
