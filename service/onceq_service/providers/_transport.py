"""httpx2's transport for calls to providers: plain or TLS connections of _connection.py, kept for a while, no limit.

How many calls run at once is decided by the worker and the lanes, never here. It speaks HTTP/1.1 and knows no proxy:
where one is configured, _http.py leaves the calls to httpx2's own transport.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Container
from contextvars import ContextVar
from typing import Final

import aiohappyeyeballs
import httpx2
from typing_extensions import override

from onceq_service.providers._connection import Answer, Connection, Origin
from onceq_service.providers._progress import SEND_PROGRESS, mark_started

ANSWER: Final = "onceq_answer"
"""The extension of a response under which its _connection.Answer is found."""
ANSWERED: Final[ContextVar[httpx2.Response | None]] = ContextVar("onceq_answered", default=None)
"""The answer that the next request of this task gets instead of being sent: its like has been sent (_calls.py)."""
CONNECT_S: Final = 10.0
"""Seconds for a TCP and TLS handshake; nothing has been sent until then, so running out of it is free."""
NEXT_ADDRESS_S: Final = 0.25
"""After that a host's next address is tried beside the first (RFC 8305)."""
_PORTS: Final = {"http": 80, "https": 443}


class StreamTransport(httpx2.AsyncBaseTransport):
    """Belongs to one event loop. `keep_s` is how long an idle connection is kept."""

    def __init__(self, *, keep_s: float, trust_env: bool) -> None:
        self._keep_s, self._trust_env = keep_s, trust_env
        self._idle: dict[Origin, list[Connection]] = {}
        self._expiries: dict[Connection, asyncio.TimerHandle] = {}
        self._tls: ssl.SSLContext | None = None

    @override
    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Sends it and waits for the answer's head; raises httpx2.TransportError."""
        if (answered := ANSWERED.get()) is not None:
            ANSWERED.set(None)
            return answered
        return await self.send(origin_of(request.url), head_of(request) + b"\r\n" + await request.aread())

    async def send(self, origin: Origin, message: bytes) -> httpx2.Response:
        """The same with a request as it is written."""
        connection = self._take(origin) or await self._connect(origin)
        mark_started()
        progress = SEND_PROGRESS.get()
        answer = connection.send(message, progress.on_sent if progress else None)
        del message  # it has the prompt in it, and what is not yet written is the connection's
        try:
            await answer.begun()
        except BaseException:
            await answer.aclose()
            raise
        headers, answer.headers = answer.headers, []
        extensions = {"http_version": b"HTTP/1.1", ANSWER: answer}
        return httpx2.Response(answer.status, headers=headers, stream=answer, extensions=extensions)

    @override
    async def aclose(self) -> None:
        for connections in list(self._idle.values()):
            for connection in list(connections):
                connection.abort()

    def _take(self, origin: Origin) -> Connection | None:
        """The connection that was used last: the others may lapse."""
        idle = self._idle.get(origin, [])
        while idle:
            connection = idle.pop()
            self._expiries.pop(connection).cancel()
            if connection.usable:
                return connection
            connection.abort()
        return None

    def free(self, origin: Origin, connection: Connection) -> None:
        """For the connection: it is kept for the next request."""
        self._idle.setdefault(origin, []).append(connection)
        self._expiries[connection] = connection.loop.call_later(self._keep_s, connection.abort)

    def lost(self, origin: Origin, connection: Connection) -> None:
        """For the connection: it has ended."""
        expiry = self._expiries.pop(connection, None)
        if expiry is not None:
            expiry.cancel()
            self._idle[origin].remove(connection)

    async def _connect(self, origin: Origin) -> Connection:
        scheme, host, port = origin
        try:
            async with asyncio.timeout(CONNECT_S):
                stream = await _open_socket(host, port)
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: Connection(self, origin),
                    sock=stream,
                    ssl=self._tls_context() if scheme == "https" else None,
                    server_hostname=host if scheme == "https" else None,
                )
        except TimeoutError as exc:
            raise httpx2.ConnectTimeout(f"no connection to {host} in time") from exc
        except OSError as exc:
            raise httpx2.ConnectError(f"no connection to {host}: {exc}") from exc
        return connection

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = httpx2.create_ssl_context(trust_env=self._trust_env)
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls


def answer_of(response: httpx2.Response) -> Answer | None:
    """The response's body for reading straight from its connection; None where another transport or an encoding is."""
    answer = response.extensions.get(ANSWER)
    return answer if isinstance(answer, Answer) and "content-encoding" not in response.headers else None


async def _open_socket(host: str, port: int) -> socket.socket:
    infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    found = await aiohappyeyeballs.start_connection(  # pyright: ignore[reportUnknownMemberType] - addresses untyped
        infos, happy_eyeballs_delay=NEXT_ADDRESS_S
    )
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return found


def origin_of(url: httpx2.URL) -> Origin:
    """Whom to connect to; raises httpx2.UnsupportedProtocol."""
    if url.scheme not in _PORTS:
        raise httpx2.UnsupportedProtocol(f"{url.scheme!r} is not http or https")
    return url.scheme, url.raw_host.decode("ascii"), url.port or _PORTS[url.scheme]


def head_of(request: httpx2.Request, without: Container[str] = ()) -> bytes:
    """A request's first lines but for the headers that are named (in small letters), each with its end.

    Its body has a length, since it is JSON in memory. Raises httpx2.LocalProtocolError.
    """
    lines = [b"%b %b HTTP/1.1" % (request.method.encode("ascii"), request.url.raw_path)]
    lines += [b"%b: %b" % pair for pair in request.headers.raw if pair[0].decode("ascii").lower() not in without]
    head = b"\r\n".join([*lines, b""])
    if head.count(b"\n") != len(lines) or head.count(b"\r") != len(lines):
        raise httpx2.LocalProtocolError("a header has a line break in it; look at the provider's key", request=request)
    return head
