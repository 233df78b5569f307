"""POST /v1/jobs/batch: up to 1,000 jobs in one request, each with its own key and its own outcome."""

from __future__ import annotations

import asyncio

from starlette.types import Receive

from onceq.wire import BatchItem, BatchRequest
from onceq_service.api.auth import require
from onceq_service.api.body import Heads, parse, read_json
from onceq_service.api.problems import answer_to
from onceq_service.api.replies import JSON, Reply
from onceq_service.api.service import Service
from onceq_service.api.submit import admit
from onceq_service.store import ApiKey, Seal


async def submit_batch(service: Service, key: ApiKey, heads: Heads, receive: Receive) -> Reply:
    """Admits all items at once, so that they share pipelines; 200 with an outcome for each, in their order."""
    require(key, "submit")
    batch = parse(BatchRequest, await read_json(heads, receive))
    seal = await service.seal()
    outcomes = await asyncio.gather(*(_outcome(service, key, item, seal) for item in batch.items))
    return Reply(200, b'{"items":[' + b",".join(outcomes) + b"]}", (JSON,))


async def _outcome(service: Service, key: ApiKey, item: BatchItem, seal: Seal) -> bytes:
    try:
        accepted = await admit(service, key, item.idempotency_key, item.job, seal)
    except Exception as exc:  # noqa: BLE001 - one item's trouble, whatever it is, is not the others'
        refused = answer_to(exc, "an item of a batch")
        return b'{"job":null,"problem":' + refused.problem().model_dump_json().encode() + b"}"
    return b'{"job":' + accepted.body + b',"problem":null}'
