"""HTTP as our server speaks it: uvicorn's protocol, with what it lacks.

It puts the connection into the scope (connection.py), hands plain posts to fast_path.py, answers with a problem what is
no request, and waits for none for ever: one that does not end is refused before anybody has asked for its key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

from httptools import HttpRequestParser
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from onceq.wire import MAX_BODY_BYTES
from onceq_service.api.app import Api
from onceq_service.api.http.body import Heads
from onceq_service.api.http.connection import EXTENSION
from onceq_service.api.http.problems import Refused
from onceq_service.api.http.replies import Reply
from onceq_service.api.submission.fast_path import PATH, FastPath, may_take

MOST_HEAD_BYTES: Final = 65_536
"""Of a request's first line and headers together; as much again may come in the read that passes it."""
MOST_BYTES: Final = 2 * MAX_BODY_BYTES
"""Of a request, with what chunks add to its body: a longer body is refused long before, this is for whoever goes on."""
PATIENCE_S: Final = 60.0
"""For a whole head, and between two pieces of a body."""


class ApiProtocol(HttpToolsProtocol):
    """One connection.

    A plain post is kept here until it is whole, and then taken by fast_path.py; what that does not take is handed to
    uvicorn as if it had just come.
    """

    __slots__ = (
        "_alone",
        "_came",
        "_fast_path",
        "_head",
        "_kept",
        "_late",
        "ending",
        "on_end",
    )  # beside uvicorn's dict: one name more in it costs each connection 1.5 KiB

    on_end: Callable[[], object] | None
    ending: bool
    _fast_path: FastPath | None
    _kept: tuple[Heads, list[bytes]] | None
    """A post that may go the short way: its headers, and what has come of its body."""
    _alone: bool
    """Whether no request has ended in the read that is taken in now."""
    _came: int | None
    """Bytes of the request that is coming in; None between requests."""
    _head: bool
    """Whether it is still its head."""
    _late: asyncio.TimerHandle | None
    """Rings when too little of it has come; only where it did not come at once."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.on_end = self._kept = self._came = self._late = None
        self.ending = self._head = False
        self._fast_path = cast("Api", self.app).fast_path

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - as uvicorn has it
        """asyncio's word for a new client."""
        super().connection_made(transport)
        self.flow._is_writable_event = cast("asyncio.Event", Signal(on=True))  # pyright: ignore[reportPrivateUsage]
        self._late = self.loop.call_later(self.timeout_keep_alive, self._too_late)

    @override
    def data_received(self, data: bytes) -> None:
        """asyncio's word for what has come."""
        self._alone = True
        super().data_received(data)
        if self._came is not None:
            self._watch(len(data))
        elif self._late is not None:
            self._late.cancel()
            self._late = None

    def _watch(self, came: int) -> None:
        """Limits a request that has not come at once."""
        # where another one ends in the same read, who knows what of it is whose
        self._came = (self._came or 0) + (came if self._alone else 1)
        if self._came > MOST_BYTES:
            self.cut()
        elif self._head and self._came > MOST_HEAD_BYTES:
            limit = f"more than {MOST_HEAD_BYTES // 1024} KiB"
            self._turn_away(Refused("headers_too_large", f"The request's headers take {limit}: send fewer."))
        elif self._late is None or not self._head:
            if self._late is not None:
                self._late.cancel()
            self._late = self.loop.call_later(PATIENCE_S, self._too_late)

    def _too_late(self) -> None:
        """Too little of a request has come: nothing at all, half a head, or a body that stands still."""
        self._late = None
        if self._came is None:
            self.transport.close()
            return
        if self.flow.read_paused:  # it is we who let it stand: it waits behind another one
            self._late = self.loop.call_later(PATIENCE_S, self._too_late)
            return
        detail = f"The request stood still for {PATIENCE_S:.0f} s and was given up. Nothing was stored; send it again."
        self._turn_away(Refused("request_timeout", detail))

    @override
    def eof_received(self) -> bool | None:  # pyright: ignore[reportIncompatibleMethodOverride] - as asyncio has it
        """asyncio's word for a client that sends no more: one that has posted may still read what became of it."""
        cycle = cast("RequestResponseCycle | Post | None", self.cycle)
        if cycle is None or cycle.response_complete:
            return None
        if isinstance(cycle, RequestResponseCycle) and (cycle.more_body or cycle.scope["method"] != "POST"):
            return None  # half a post, or a reader, who would not be missed otherwise
        cycle.keep_alive = False
        return True

    def on_message_begin(self) -> None:
        """uvicorn's hook for a new request: its scope is made in `_begin`, for those that need one."""
        self.url, self.headers, self.expect_100_continue = b"", [], False
        self._came, self._head = 0, True

    def _begin(self) -> None:
        """uvicorn's beginning of a request whose head is there already."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)
        cast("dict[str, Any]", self.scope)["extensions"] = {EXTENSION: self}
        super().on_headers_complete()

    def on_headers_complete(self) -> None:
        """uvicorn's hook for a whole head."""
        self._head = False
        heads = self._straight_heads()
        if heads is not None:
            self._kept = (heads, [])
        else:
            self._begin()
            self.cycle.message_event = cast("asyncio.Event", Signal())

    def on_body(self, body: bytes) -> None:
        """uvicorn's hook for a part of the body."""
        if self._kept is None:
            super().on_body(body)
        else:
            self._kept[1].append(body)

    def on_message_complete(self) -> None:
        """uvicorn's hook for the end of a request."""
        kept, self._kept, self._came = self._kept, None, None
        self._alone = False
        if kept is None:
            super().on_message_complete()
            return
        (heads, parts), post = kept, Post(self)
        body = b"".join(parts)
        if self._fast_path is not None and self._fast_path.take(heads, body, post):
            self.cycle = cast("RequestResponseCycle", post)
        else:
            self._begin()
            super().on_body(body)
            super().on_message_complete()

    def _straight_heads(self) -> Heads | None:
        """The headers of a request that may go the short way."""
        if self.url != PATH or self._fast_path is None:
            return None
        before, parser = cast("RequestResponseCycle | None", self.cycle), cast("HttpRequestParser", self.parser)
        heads = dict(self.headers)
        may = (
            parser.get_method() == b"POST"
            and parser.should_keep_alive()
            and parser.get_http_version() == "1.1"
            and (before is None or before.response_complete)
            and may_take(heads, self.headers)
        )
        return heads if may else None

    def shutdown(self) -> None:
        """The server begins to stop."""
        super().shutdown()
        self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's word for a client that has left."""
        super().connection_lost(exc)
        self._end()

    def _end(self) -> None:
        self.ending = True
        if self._late is not None:
            self._late.cancel()
            self._late = None
        if self.on_end is not None:
            self.on_end()

    def cut(self) -> None:
        """Drops the connection at once."""
        self.transport.abort()

    def _unsupported_upgrade_warning(self) -> None:
        """uvicorn's word of an upgrade, which would tell operators to install something: it is answered as it is."""

    def send_400_response(self, msg: str) -> None:
        """uvicorn's hook for bytes that are not HTTP."""
        self._turn_away(Refused("bad_request", "The bytes sent are not an HTTP request."))

    def _turn_away(self, refused: Refused) -> None:
        """Ends the connection with a problem, but behind a whole request: it would be taken for the answer to that."""
        cycle = cast("RequestResponseCycle | Post | None", self.cycle)
        if cycle is not None and not cycle.response_complete:
            if isinstance(cycle, Post) or not cycle.more_body:
                cycle.keep_alive = False
                self.flow.pause_reading()
                return
            if cycle.response_started or self.pipeline:
                self.cut()
                return
        elif cycle is not None and self._came is not None and not self._head and self._kept is None:
            self.transport.close()  # it was answered before its end
            return
        reply = refused.reply()
        head = STATUS_LINE[reply.status] + b"content-type: application/problem+json\r\nconnection: close\r\n"
        self.transport.write(head + b"content-length: %d\r\n\r\n" % len(reply.body) + reply.body)
        self.transport.close()


class Signal:
    """What uvicorn needs of an asyncio.Event, without the queue of waiters that each of those has: 0.7 KiB."""

    __slots__ = ("_on", "_waiters")

    def __init__(self, *, on: bool = False) -> None:
        self._on = on
        self._waiters: tuple[asyncio.Future[None], ...] = ()

    def is_set(self) -> bool:
        """Whether nobody has to wait."""
        return self._on

    def set(self) -> None:
        """Wakes all who wait."""
        self._on = True
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def clear(self) -> None:
        """Whoever comes now has to wait."""
        self._on = False

    async def wait(self) -> None:
        """Until it is set."""
        if self._on:
            return
        mine = asyncio.get_running_loop().create_future()
        self._waiters = (*self._waiters, mine)
        try:
            await mine
        finally:
            self._waiters = tuple(waiter for waiter in self._waiters if waiter is not mine)


class Post:
    """A post on the short way: the Connection that fast_path.py answers to, and for uvicorn a cycle like its own: what
    is pipelined behind it waits, a stop lets it end.
    """

    __slots__ = ("_protocol", "disconnected", "keep_alive", "message_event", "response_complete")

    def __init__(self, protocol: ApiProtocol) -> None:
        self._protocol = protocol
        self.response_complete = self.disconnected = False
        self.keep_alive = True
        self.message_event = _Unheard

    def accept(self, rest: bytes) -> None:
        """Sends a 202: its headers, an empty line, its body."""
        self._send(202, rest)

    def reply(self, reply: Reply) -> None:
        """Sends any reply."""
        heads = [*reply.headers, (b"content-length", b"%d" % len(reply.body))]
        self._send(reply.status, b"".join([b"%b: %b\r\n" % head for head in heads]) + b"\r\n" + reply.body)

    def _send(self, status: int, rest: bytes) -> None:
        protocol, self.response_complete = self._protocol, True
        if self.disconnected:
            return
        always = protocol.server_state.default_headers
        if not self.keep_alive:
            always = [*always, (b"connection", b"close")]
        head = b"".join([STATUS_LINE[status], *[b"%b: %b\r\n" % one for one in always]])
        protocol.transport.write(head + rest)
        if not self.keep_alive:
            protocol.transport.close()
        protocol.on_response_complete()


class _Unheard:
    """The event of a cycle that waits for nothing."""

    @staticmethod
    def set() -> None:
        """Nobody listens."""
