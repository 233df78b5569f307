"""GET /v1/jobs/{id}/events: a job's event log as SSE, from any number, relayed as bytes (G6).

A stream is the request's own task, which pumps frames; the client's leaving and the server's stop cancel it, and
readers.py looks after all streams of a process.

A reader that keeps up is written to from the subscriber's own read, without a task: that is nearly every frame. The
pump has the log, gaps, and readers that are slower than their job.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing, suppress
from functools import partial
from typing import Final, cast
from urllib.parse import parse_qs

from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from onceq_service.api.auth import KEY, require
from onceq_service.api.http.body import Heads
from onceq_service.api.http.connection import cut, flows, until_end
from onceq_service.api.http.problems import Refused
from onceq_service.api.http.replies import Reply, send_reply
from onceq_service.api.lookup import shown_of
from onceq_service.api.middleware import HEADS
from onceq_service.api.readers import Readers
from onceq_service.api.service import Service
from onceq_service.api.streams.long_poll import has_ended
from onceq_service.api.streams.presence import watched
from onceq_service.logs import told_once
from onceq_service.store import ApiKey, StoreUnavailable
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
        grace_ms = await self._begin(key, job_id, after)
        if grace_ms is None:
            await send_reply(send, Reply(204))
            return
        stream = Stream(partial(service.store.events.follow, job_id), after, scope, send, key.id, job_id)
        async with watched(service, job_id, grace_ms):
            await stream.run(service.readers, service.settings.keep_alive_s)

    async def _begin(self, key: ApiKey, job_id: str, after: int) -> int | None:
        """The job's grace in ms, 0 for none; None when the reader has everything. All else of the job is let go of."""
        fields = await shown_of(self._service, key, job_id)
        return None if at_end(job_id, fields, after) else int(fields.get("grace_ms", 0))


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
    """One reader's connection; of one job, or of many (`job_id` None)."""

    __slots__ = (
        "_after", "_blocked_s", "_follow", "_keep_alive_s", "_left", "_scope", "_send", "_sending_since", "_sent_at",
        "_task", "job_id", "key_id",
    )  # fmt: skip

    def __init__(
        self, follow: Follow, after: int, scope: Scope, send: Send, key_id: str, job_id: str | None = None
    ) -> None:
        self._follow, self._after, self.key_id, self.job_id = follow, after, key_id, job_id
        self._scope, self._send = scope, send
        self._keep_alive_s = math.inf
        self._sent_at = time.monotonic()
        self._sending_since: float | None = None
        self._blocked_s = 0.0
        self._task: asyncio.Task[object] | None = None
        self._left = False

    def blocked_s(self) -> float:
        """Seconds that writes have waited for this reader in all, the present one included."""
        return self._blocked_s + (0.0 if self._sending_since is None else time.monotonic() - self._sending_since)

    async def run(self, readers: Readers, keep_alive_s: float) -> None:
        """Until the log's end, the client's leaving, the server's stop, or a reader that is stuck."""
        self._task, self._keep_alive_s = asyncio.current_task(), keep_alive_s
        await self._send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        readers.add(self)
        try:
            await self._run_to_end()
        finally:
            readers.remove(self)

    async def _run_to_end(self) -> None:
        try:
            with until_end(self._scope, self._leave):
                await self._pump()
        except asyncio.CancelledError:
            if not self._left or cast("asyncio.Task[object]", self._task).uncancel():
                raise
        if self._sending_since is None:
            await self._end()

    def tend(self, now: float) -> None:
        """Keeps a quiet connection alive; cuts one that has taken nothing for too long."""
        if self._sending_since is None:
            late_s = now - self._sent_at - self._keep_alive_s
            if late_s >= 0 and self._write_now(KEEP_ALIVE):
                self._sent_at = now
                return
        else:
            late_s = now - self._sending_since
        if late_s >= SEND_TIMEOUT_S:
            self.cut()

    def cut(self) -> None:
        """Drops the connection, whatever is on its way."""
        cut(self._scope)

    def _leave(self) -> None:
        if self._task is not None and not self._left:  # a stop and a leaving of one moment are one cancel
            self._left = True
            self._task.cancel()

    async def _end(self) -> None:
        """Ends the answer. It waits for what was written before: that may be the whole log, and nobody reads it."""
        self._sending_since = time.monotonic()
        with suppress(OSError):
            await self._send({"type": "http.response.body", "body": b""})

    async def _pump(self) -> None:
        """The log to its end. While Redis is away the reader is kept: a browser would not come back after a 503."""
        while True:
            try:
                async with aclosing(self._follow(self._after, self._take)) as frames:
                    async for chunk in frames:
                        if chunk:
                            await self._write(chunk)
                            self._after = last_number(chunk)
            except StoreUnavailable:
                await asyncio.sleep(AGAIN_S)
            else:
                return

    def _take(self, seq: int, frame: bytes) -> bool:
        """Writes a frame now, if that ends at once."""
        if self._sending_since is not None or not self._write_now(frame):
            return False
        self._after, self._sent_at = seq, time.monotonic()
        return True

    def _write_now(self, frame: bytes) -> bool:
        if not flows(self._scope):
            return False
        sending = cast("Coroutine[object, None, None]", self._send(_body(frame)))
        try:
            sending.send(None)
        except StopIteration:
            return True
        except OSError:  # the pump meets it again; here it would end what serves all readers
            return False
        except Exception as exc:  # noqa: BLE001 - likewise
            told_once("a frame is not written at once", exc)
            return False
        sending.close()
        return False

    async def _write(self, chunk: bytes) -> None:
        self._sending_since = time.monotonic()
        await self._send(_body(chunk))
        self._sent_at = time.monotonic()
        self._blocked_s += self._sent_at - self._sending_since
        self._sending_since = None
