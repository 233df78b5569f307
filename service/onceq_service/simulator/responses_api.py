"""The Responses routes: create, and for background responses also stream again, poll and cancel.

A fault in mid-stream strikes the connection of the first reader of a background response, not the generation, so
that there is something to come back to; only `error` and `overload` make the response itself fail.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

from starlette.datastructures import Headers, QueryParams
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from onceq_service.simulator.ask import RefusedError
from onceq_service.simulator.background import Background, ResponseStore
from onceq_service.simulator.dialect import Incoming, Reply
from onceq_service.simulator.endpoint import Call, CallEndpoint, SharedState, stream_headers
from onceq_service.simulator.exchange import Wire, forever, while_connected
from onceq_service.simulator.faults import ERROR_EVENTS, MID_STREAM
from onceq_service.simulator.frames import Frame, encode
from onceq_service.simulator.openai_errors import check_key
from onceq_service.simulator.openai_responses import OpenAIResponses


def responses_routes(state: SharedState) -> list[BaseRoute]:
    """The routes under /openai/v1/responses, with a store of their own."""
    store = ResponseStore()
    return [
        Route("/openai/v1/responses", CreateResponse(state, store), methods=["POST"]),
        Route("/openai/v1/responses/{name}", GetResponse(store), methods=["GET"]),
        Route("/openai/v1/responses/{name}/cancel", CancelResponse(store), methods=["POST"]),
    ]


class CreateResponse(CallEndpoint):
    """POST /responses."""

    def __init__(self, state: SharedState, store: ResponseStore) -> None:
        super().__init__(OpenAIResponses(), state)
        self.store = store

    async def serve(self, call: Call, wire: Wire) -> None:
        """In the background the call outlives this request, so that only its own end closes its row."""
        fault = call.script.fault.name if call.script.fault else ""
        if not call.script.ask.background or fault in ("hang", "drop"):
            await super().serve(call, wire)
            return
        background = self.store.put(call)
        if call.script.ask.stream:
            await _stream(background, wire, fault="" if fault in ERROR_EVENTS else fault)
        else:
            await wire.reply(_shown(background))


class GetResponse:
    """GET /responses/{id}: poll, or stream from `starting_after` with `stream=true`."""

    def __init__(self, store: ResponseStore) -> None:
        self.store = store

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        wire = Wire(scope, send)
        try:
            background = _find(self.store, scope)
            start = _start(QueryParams(scope["query_string"]))
            if start is not None:
                _still_streams(background)
        except RefusedError as refused:
            await wire.reply(OpenAIResponses().refuse(refused, "req_get"))
            return
        if start is None:
            await wire.reply(_shown(background))
        else:
            await while_connected(_stream(background, wire, start), receive)


class CancelResponse:
    """POST /responses/{id}/cancel; a second cancel, and one after the end, change nothing."""

    def __init__(self, store: ResponseStore) -> None:
        self.store = store

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        wire = Wire(scope, send)
        try:
            background = _find(self.store, scope)
        except RefusedError as refused:
            await wire.reply(OpenAIResponses().refuse(refused, "req_cancel"))
            return
        background.cancel()
        await wire.reply(_shown(background))


def _find(store: ResponseStore, scope: Scope) -> Background:
    check_key(Incoming(Headers(scope=scope), b""))
    return store.get(scope["path_params"]["name"])


def _start(query: QueryParams) -> int | None:
    """The first sequence number to stream, None for a poll."""
    if query.get("stream", "false").lower() != "true":
        return None
    after = query.get("starting_after", "-1")
    if not after.removeprefix("-").isdigit():
        raise RefusedError(400, f"Invalid 'starting_after': {after!r} is not an integer.")
    return max(0, int(after) + 1)


def _still_streams(background: Background) -> None:
    script = background.call.script
    if time.time() - script.started_at > script.resumable_s:
        raise RefusedError(400, "This response can no longer be streamed; retrieve it without stream.")


def _shown(background: Background) -> Reply:
    headers = [(b"content-type", b"application/json"), *background.call.headers]
    return Reply(200, headers, encode(background.shown()))


async def _stream(background: Background, wire: Wire, start: int = 0, fault: str = "") -> None:
    call = background.call
    await wire.start(200, stream_headers(call))
    if fault == "half":
        await forever()
    batches = background.follow(start)
    if fault in MID_STREAM and call.script.fault is not None:
        batches = _until(batches, call.script.fault.after)
    async for batch in batches:
        await wire.write(b"".join([frame.data for frame in batch]))
    await _finish(call, wire, fault)


async def _finish(call: Call, wire: Wire, fault: str) -> None:
    match fault:
        case "cut":
            await wire.hang_up()
        case "stall":
            await forever()
        case "garbage":
            await wire.write(call.dialect.garbage(), more=False)
        case _:
            await wire.end()


async def _until(batches: AsyncIterator[list[Frame]], tokens: int) -> AsyncIterator[list[Frame]]:
    """Frames up to so many tokens, and never the last frame: the reader's part before a fault."""
    seen = 0
    async for batch in batches:
        for place, frame in enumerate(batch):
            if frame.last or (seen >= tokens and (seen or frame.tokens)):
                yield batch[:place]
                return
            seen += frame.tokens
        yield batch
