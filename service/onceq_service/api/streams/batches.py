"""GET /v1/events?batch=<id>: the ends of a batch's jobs as SSE over one connection; and the cancel of a batch."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from functools import partial
from typing import Final
from urllib.parse import parse_qs

from fastapi import APIRouter
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from onceq.wire import BatchCancelled
from onceq_service.api.auth import KEY, Canceller, require
from onceq_service.api.http.problems import Refused, invalid_field, span
from onceq_service.api.http.replies import Reply, send_reply
from onceq_service.api.middleware import HEADS
from onceq_service.api.openapi import documented as doc
from onceq_service.api.service import In, Service
from onceq_service.api.streams.events import Stream, cursor
from onceq_service.api.streams.presence import batch_watched
from onceq_service.store import BatchState

_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)

router = APIRouter(tags=["batches"])


class BatchEvents:
    """The route, as an ASGI app; the stream is that of events.py."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI; raises Refused, StoreError before the first byte."""
        service, key = self._service, scope[KEY]
        require(key, "read")
        after = cursor(scope[HEADS], scope["query_string"])
        batch = _wanted(scope["query_string"])
        if _at_end(batch, await _known(service, key.tenant, batch), after):
            await send_reply(send, Reply(204))
            return
        follow = partial(service.store.batches.follow, key.tenant, batch)
        async with batch_watched(service, key.tenant, batch):
            await Stream(follow, after, scope, send, key.id).run(service.readers, service.settings.keep_alive_s)


def batch_events_route(service: Service) -> Route:
    """The route; GET only, since a HEAD would stream too."""
    route = Route("/v1/events", BatchEvents(service), methods=["GET"])
    route.methods = {"GET"}
    return route


@router.post("/v1/batches/{batch_id}/cancel", responses=doc.problems(401, 403, 404, 422, 503))
async def cancel_batch(service: In, key: Canceller, batch_id: str) -> BatchCancelled:
    """Cancels the jobs of a batch that have not ended, for everyone who joined them; the others keep their answers."""
    await _known(service, key.tenant, _checked(batch_id))
    done: Counter[str] = Counter()
    async for ids in service.store.batches.live_ids(key.tenant, batch_id):
        done.update(await asyncio.gather(*(service.store.jobs.cancel(job_id, key.tenant) for job_id in ids)))
    return BatchCancelled(cancelled=done["cancelled"], requested=done["requested"])


async def _known(service: Service, tenant: str, batch: str) -> BatchState:
    state = await service.store.batches.state(tenant, batch)
    if state is None:
        detail = (
            f"There is no batch {batch} for this API key: a job posted to /v1/jobs/batch with it begins one, and it is "
            f"kept for {span(service.settings.result_ttl_s)} after all its jobs have ended."
        )
        raise Refused("batch_not_found", detail)
    return state


def _wanted(query: bytes) -> str:
    return _checked(parse_qs(query.decode("latin-1"), keep_blank_values=True).get("batch", [""])[-1])


def _checked(batch: str) -> str:
    if not _ID.fullmatch(batch):
        raise invalid_field("batch", "is 1 to 64 letters, digits, _ and -")
    return batch


def _at_end(batch: str, state: BatchState, after: int) -> bool:
    """Whether the reader has everything; raises Refused (400) when it claims more than there is."""
    if after > state.ended:
        detail = f"Batch {batch} has {state.ended} events, Last-Event-ID is {after}: read again from 0."
        raise Refused("last_event_id_ahead", detail)
    return after == state.ended and state.live == 0
