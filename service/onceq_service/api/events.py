"""GET /v1/jobs/{id}/events: a job's event log as SSE, from any number, relayed as bytes (G6).

A stream holds two tasks: one pumps frames, one listens for the client's leaving, keeps the connection alive and cuts
a reader that is stuck. Whichever ends first ends the other, and the subscription with it.

A reader that keeps up is written to from the subscriber's own read, without a task: that is nearly every frame. The
pump has the log, gaps, and readers that are slower than their job.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from functools import partial
from typing import Final, cast
from urllib.parse import parse_qs

from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from onceq_service.api.auth import KEY, require
from onceq_service.api.body import Heads
from onceq_service.api.connection import cut, flows, stopping
from onceq_service.api.door import HEADS
from onceq_service.api.jobs import shown_of
from onceq_service.api.presence import watched
from onceq_service.api.problems import Refused
from onceq_service.api.replies import Reply, send_reply
from onceq_service.api.service import Service, cancel_all
from onceq_service.api.waiting import has_ended
from onceq_service.store import StoreUnavailable
from onceq_service.store.events import Take
from onceq_service.store.views import Fields

SEND_TIMEOUT_S: Final = 30.0
"""How long one write may wait for a reader that does not read before it is cut; it can come back with its cursor."""
AGAIN_S: Final = 0.5
KEEP_ALIVE: Final = b": keep-alive\n\n"
HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
)
Follow = Callable[[int, Take], AsyncGenerator[bytes]]
"""Frames behind a number; those that `Take` takes at once need not come."""
_NUMBER = re.compile(r"\d{1,15}", re.ASCII)


class Events:
    """The route, as an ASGI app."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI; raises Refused, StoreError before the first byte."""
        service, key = self._service, scope[KEY]
        require(key, "read")
        after = cursor(scope[HEADS], scope["query_string"])
        job_id: str = scope["path_params"]["job_id"]
        fields = await shown_of(service, key, job_id)
        if at_end(job_id, fields, after):
            await send_reply(send, Reply(204))
            return
        service.streams += 1
        try:
            follow = partial(service.store.events.follow, job_id)
            async with watched(service, job_id, fields):
                stream = Stream(follow, after, scope, receive, send, service.settings.keep_alive_s)
                with service.readers.following(job_id, stream.blocked_s):
                    await stream.run()
        finally:
            service.streams -= 1


def events_route(service: Service) -> Route:
    """The route; GET only, since a HEAD would stream too."""
    route = Route("/v1/jobs/{job_id}/events", Events(service), methods=["GET"])
    route.methods = {"GET"}
    return route


def cursor(heads: Heads, query: bytes) -> int:
    """The number that the reader has reached; the header, which EventSource keeps up to date, beats the query."""
    header = heads.get(b"last-event-id")
    if header is not None:
        return _number(header.decode("latin-1"))
    given = parse_qs(query.decode("latin-1"), keep_blank_values=True).get("last_event_id", ["0"])
    return _number(given[-1])


def at_end(job_id: str, fields: Fields, after: int) -> bool:
    """Whether the reader has everything; raises Refused (400) when it claims more than there is."""
    last = int(fields["seq"])
    if after > last:
        detail = f"Job {job_id} has {last} events, Last-Event-ID is {after}: read again from 0."
        raise Refused("last_event_id_ahead", detail)
    return after == last and has_ended(fields)


def _number(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise Refused("malformed_last_event_id", "Last-Event-ID must be the number of an event: digits only.")
    return int(text)


def last_number(chunk: bytes) -> int:
    """The number of the last frame of a chunk; a frame begins with it, but for a snapshot, which is never last."""
    start = chunk.rfind(b"\n\n", 0, -2)
    line = chunk[0 if start < 0 else start + 2 :].split(b"\n", 1)[0]
    return int(line.removeprefix(b"id: "))


def _body(chunk: bytes) -> Message:
    return {"type": "http.response.body", "body": chunk, "more_body": True}


class Stream:
    """One reader's connection."""

    def __init__(
        self, follow: Follow, after: int, scope: Scope, receive: Receive, send: Send, keep_alive_s: float
    ) -> None:
        self._follow, self._after = follow, after
        self._scope, self._receive, self._send = scope, receive, send
        self._keep_alive_s = keep_alive_s
        self._sent_at = time.monotonic()
        self._sending_since: float | None = None
        self._blocked_s = 0.0

    def blocked_s(self) -> float:
        """Seconds that writes have waited for this reader in all, the present one included."""
        return self._blocked_s + (0.0 if self._sending_since is None else time.monotonic() - self._sending_since)

    async def run(self) -> None:
        """Until the log's end, the client's leaving, the server's stop, or a reader that is stuck."""
        await self._send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        pump = asyncio.create_task(self._pump(), name="sse-pump")
        watch = asyncio.create_task(self._watch(), name="sse-watch")
        try:
            with stopping(self._scope, pump.cancel):
                await asyncio.wait((pump, watch), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel_all([pump, watch])
        if self._sending_since is None:
            await self._end()

    async def _end(self) -> None:
        """Ends the answer. It waits for what was written before: that may be the whole log, and nobody reads it."""
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await self._send({"type": "http.response.body", "body": b""})
        except TimeoutError:
            cut(self._scope)
        except OSError:
            return

    async def _pump(self) -> None:
        """The log to its end. While Redis is away the reader is kept: a browser would not come back after a 503."""
        while True:
            try:
                await self._relay()
            except StoreUnavailable:
                await asyncio.sleep(AGAIN_S)
            else:
                return

    async def _relay(self) -> None:
        async with aclosing(self._follow(self._after, self._take)) as frames:
            async for chunk in frames:
                if chunk:
                    await self._write(chunk)
                    self._after = last_number(chunk)

    def _take(self, seq: int, frame: bytes) -> bool:
        """Writes a frame now, if that ends at once."""
        if self._sending_since is not None or not flows(self._scope):
            return False
        sending = cast("Coroutine[object, None, None]", self._send(_body(frame)))
        try:
            sending.send(None)
        except StopIteration:
            self._after, self._sent_at = seq, time.monotonic()
            return True
        except Exception:  # noqa: BLE001 - the pump meets it again; here it would end the subscription of all readers
            return False
        sending.close()
        return False

    async def _write(self, chunk: bytes) -> None:
        self._sending_since = time.monotonic()
        await self._send(_body(chunk))
        self._sent_at = time.monotonic()
        self._blocked_s += self._sent_at - self._sending_since
        self._sending_since = None

    async def _watch(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._pause_s()):
                    message = await self._receive()
            except TimeoutError:
                if await self._stuck():
                    return
            else:
                if message["type"] == "http.disconnect":
                    return

    def _pause_s(self) -> float:
        now = time.monotonic()
        if self._sending_since is not None:
            return max(0.01, self._sending_since + SEND_TIMEOUT_S - now)
        return max(0.01, self._sent_at + self._keep_alive_s - now)

    async def _stuck(self) -> bool:
        """Keeps a quiet connection alive; cuts one that has taken nothing for too long."""
        now = time.monotonic()
        if self._sending_since is None:
            if now - self._sent_at >= self._keep_alive_s:
                return not await self._keep_alive()
            return False
        if now - self._sending_since < SEND_TIMEOUT_S:
            return False
        cut(self._scope)
        return True

    async def _keep_alive(self) -> bool:
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await self._write(KEEP_ALIVE)
        except TimeoutError:
            cut(self._scope)
            return False
        return True
