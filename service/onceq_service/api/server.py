"""Runs the API: one socket, bound once; one process, or several that share it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any, cast

import uvicorn
from httptools import HttpRequestParser
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from onceq.errors import ConfigurationError
from onceq_service.api.app import Api, build_app
from onceq_service.api.body import Heads
from onceq_service.api.connection import EXTENSION
from onceq_service.api.logs import configure_logs
from onceq_service.api.problems import Refused
from onceq_service.api.processes import Fleet
from onceq_service.api.replies import Reply
from onceq_service.api.straight import PATH, Straight, may_take
from onceq_service.settings import Settings

BACKLOG = 2048
STOP_S = 1
"""Requests that still run this long after a stop are cancelled; streams and long polls end at once."""
KEEP_ALIVE_S = 75
"""Longer than a load balancer's 60 s, or it would reuse a connection in the moment that we close it."""


class ApiProtocol(HttpToolsProtocol):
    """Puts the connection into the scope (connection.py), and answers bytes that are not HTTP with a problem too.

    A plain post is kept here until it is whole, and then taken by straight.py; what that does not take is handed to
    uvicorn as if it had just come.
    """

    __slots__ = (
        "_kept",
        "_straight",
        "ending",
        "on_end",
    )  # beside uvicorn's dict: one name more in it costs each connection 1.5 KiB

    on_end: Callable[[], object] | None
    ending: bool
    _straight: Straight | None
    _kept: tuple[Heads, list[bytes]] | None
    """A post that may go the short way: its headers, and what has come of its body."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.on_end = self._kept = None
        self.ending = False
        self._straight = cast("Api", self.app).straight

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - as uvicorn has it
        """asyncio's word for a new client."""
        super().connection_made(transport)
        self.flow._is_writable_event = cast("asyncio.Event", Signal(on=True))  # pyright: ignore[reportPrivateUsage]

    def on_message_begin(self) -> None:
        """uvicorn's hook for a new request: its scope is made in `_begin`, for those that need one."""
        self.url, self.headers, self.expect_100_continue = b"", [], False

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
        kept, self._kept = self._kept, None
        if kept is None:
            super().on_message_complete()
            return
        (heads, parts), post = kept, Post(self)
        body = b"".join(parts)
        if self._straight is not None and self._straight.take(heads, body, post):
            self.cycle = cast("RequestResponseCycle", post)
        else:
            self._begin()
            super().on_body(body)
            super().on_message_complete()

    def _straight_heads(self) -> Heads | None:
        """The headers of a request that may go the short way."""
        if self.url != PATH or self._straight is None:
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
        if self.on_end is not None:
            self.on_end()

    def cut(self) -> None:
        """Drops the connection at once."""
        self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """For bytes that are not HTTP."""
        reply = Refused("bad_request", "The bytes sent are not an HTTP request.").reply()
        head = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\nconnection: close\r\n"
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
    """A post on the short way: the Connection that straight.py answers to, and for uvicorn a cycle like its own: what
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


class ApiServer(uvicorn.Server):
    """uvicorn with our settings; calls `on_ready` when it answers."""

    def __init__(self, settings: Settings, on_ready: Callable[[], None]) -> None:
        config = uvicorn.Config(
            build_app(settings),
            http=ApiProtocol,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=STOP_S,
        )
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listens, then says so."""
        await super().startup(sockets)
        self._on_ready()


def run(settings: Settings) -> None:
    """Serves until SIGINT or SIGTERM; prints `{"url": ...}` when it answers. Raises ConfigurationError."""
    configure_logs(settings)
    listener = bind(settings.host, settings.port)
    try:
        if settings.api_processes == 1:
            serve(ApiServer(settings, lambda: announce(listener)), listener)
        else:
            Fleet(partial(_child, settings), listener, settings.api_processes).run(lambda: announce(listener))
    finally:
        listener.close()


def serve(server: ApiServer, listener: socket.socket) -> None:
    """Serves in this thread until a signal; a clean stop ends without an exception, whatever the signal."""
    before = signal.signal(signal.SIGTERM, _ignore)  # uvicorn raises the signal once more when it has stopped
    try:
        with suppress(KeyboardInterrupt):
            server.run([listener])
    finally:
        signal.signal(signal.SIGTERM, before)


def _child(settings: Settings, listener: socket.socket, lifeline: Connection, word: Connection) -> None:
    configure_logs(settings)
    server = ApiServer(settings, lambda: word.send(os.getpid()))
    threading.Thread(target=_stop_with_parent, args=(lifeline, server), daemon=True).start()
    serve(server, listener)


def _stop_with_parent(lifeline: Connection, server: ApiServer) -> None:
    with suppress(EOFError, OSError):
        lifeline.recv()
    server.should_exit = True


def _ignore(_signal: int, _frame: FrameType | None) -> None:
    pass


def announce(listener: socket.socket) -> None:
    """Says where the API is, one line of JSON on stdout."""
    sys.stdout.write(json.dumps({"url": url_of(listener)}) + "\n")
    sys.stdout.flush()


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; raises ConfigurationError when the address is taken or not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as exc:
        listener.close()
        reason = f"{exc.strerror or exc}: stop what listens there, or set ONCEQ_PORT to another port (0: any free one)"
        raise ConfigurationError(f"The API can't listen on {host} port {port}: {reason}.") from exc
    listener.set_inheritable(True)
    return listener


def url_of(listener: socket.socket) -> str:
    """http://host:port of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
