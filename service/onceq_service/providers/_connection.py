"""One HTTP/1.1 connection over which answers are streamed: asyncio below, httptools for the protocol, nothing between.

A token is a read of its own, and what a read costs is most of what a worker does. Of CPU a token, httpx2's transport
takes 88 us, the SDKs' aiohttp one 40, a bare protocol like this 12; opening a request among 1,000 others 5 ms, 0.3 ms,
0.09 ms (benchmarks/README.md). Used by _transport.py; the bytes are read by _http.py.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncGenerator
from typing import Final, Protocol, cast

import httptools
import httpx2
from typing_extensions import override

from onceq_service.providers._progress import OnSent
from onceq_service.providers._stream import Look
from onceq_service.wakeups import wakeups

Origin = tuple[str, str, int]
HELD_BYTES: Final = 1024 * 1024
"""Read ahead of whoever takes the answer; then the provider has to wait."""


class Answer(httpx2.AsyncByteStream):
    """A response as it comes in: status and headers, then its body by `read`. Closing it early ends the connection.

    While somebody waits in `read` and `look` is set, pieces of the body go there.
    """

    def __init__(self, connection: Connection) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self._connection = connection
        self._loop = connection.loop
        self._chunks: list[bytes] = []
        self._held = 0
        self._over = False
        self._failure: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._by: float | None = None
        self.look: Look | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def begun(self) -> None:
        """Returns when status and headers are there; raises httpx2.TransportError."""
        while not self.status:
            self._raise()
            await self._wait(None)

    async def read(self, by: float | None = None) -> bytes | None:
        """All that came since the last read, None at the end.

        Raises TimeoutError when nothing comes until the loop's time `by`, and httpx2.TransportError.
        """
        while not self._chunks:
            self._raise()
            if self._over:
                return None
            await self._wait(by)
        chunks, self._chunks, held, self._held = self._chunks, [], self._held, 0
        if held > HELD_BYTES:
            self._connection.resume_reading()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    @override
    async def __aiter__(self) -> AsyncGenerator[bytes]:
        while (chunk := await self.read()) is not None:
            yield chunk

    def unwatch(self) -> None:
        """See _stream.Source."""
        self._connection.unwatch()

    @override
    async def aclose(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._over:
            self.end(httpx2.ReadError("the answer was left before its end"))
            self._connection.abort()
            await asyncio.sleep(0)  # the loop closes the socket at its next turn; what follows may hold that up

    # -- the connection's side

    def take(self, chunk: bytes) -> None:
        """A piece of the body."""
        if self.look is not None and self._waiter is not None and not self._waiter.done():
            self._by = self.look(chunk)
            if self._by is not None:
                self._ring_by(self._by)  # the timer may still be the first byte's, which is given longer
                return
            chunk = b""
        self._chunks.append(chunk)
        self._held += len(chunk)
        if self._held > HELD_BYTES:
            self._connection.pause_reading()
        self._wake()

    def begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """The head is complete."""
        self.status, self.headers = status, headers
        self._wake()

    def end(self, failure: Exception | None = None) -> None:
        """Nothing more comes; what came before a failure is still handed over."""
        if not self._over:
            self._over, self._failure = True, failure
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _raise(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def _wait(self, by: float | None) -> None:
        """Until something comes. One timer serves all reads of an answer: it is moved when it goes off too early."""
        self._by = by
        if by is not None:
            self._ring_by(by)
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _ring_by(self, when: float) -> None:
        if self._timer is None or self._timer.when() > when:
            self._ring_at(when)

    def _ring_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._waiter is None or self._waiter.done() or self._by is None:
            return
        if self._by > self._loop.time():
            self._ring_at(self._by)
        else:
            self._waiter.set_exception(TimeoutError())


class Owner(Protocol):
    """Who keeps connections, by what each of them leads to."""

    def free(self, origin: Origin, connection: Connection) -> None:
        """A connection can carry the next request."""
        ...

    def lost(self, origin: Origin, connection: Connection) -> None:
        """A connection has ended."""
        ...


class Connection(asyncio.Protocol):
    """Carries one request at a time."""

    __slots__ = (
        "_answer",
        "_body",
        "_framed",
        "_headers",
        "_interim",
        "_origin",
        "_owner",
        "_parser",
        "_sent",
        "_transport",
        "_watched",
        "loop",
    )  # fmt: skip

    _parser: httptools.HttpResponseParser
    """Of the answer that is awaited; none is made before there is one."""

    def __init__(self, owner: Owner, origin: Origin) -> None:
        self.loop = asyncio.get_running_loop()
        self._owner, self._origin = owner, origin
        self._transport: asyncio.Transport | None = None
        self._answer: Answer | None = None
        self._sent: OnSent | None = None
        self._watched = False
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._framed = self._interim = False

    @property
    def usable(self) -> bool:
        """Whether another request may be tried on it: not when something waits to be read, which is the server's close.

        A request that meets a close breaks in a way that can't be told from a call that was cut.
        """
        if self._transport is None or self._transport.is_closing() or self._answer is not None:
            return False
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not poll.poll(0)

    def send(self, request: bytes, sent: OnSent | None) -> Answer:
        """Writes a whole request; `sent` is called when all of it has gone to the network.

        What comes back wakes the process at once, until `unwatch`.
        """
        if self._transport is None:
            raise httpx2.WriteError("the connection is closed")
        self._answer = answer = Answer(self)
        self._parser = httptools.HttpResponseParser(self)
        self._headers = []
        self._sent = sent
        self._watched = wakeups().watch(self._transport)
        self._transport.write(request)
        if self._transport.get_write_buffer_size() == 0:
            self._tell_sent()
        return answer

    def unwatch(self) -> None:
        """What comes may wait for what else comes."""
        if self._watched and self._transport is not None:
            wakeups().unwatch(self._transport)
        self._watched = False

    def abort(self) -> None:
        """Ends it now, whatever is under way: the provider sees it at once."""
        if self._transport is not None:
            self._transport.abort()

    def pause_reading(self) -> None:
        """Lets the provider wait."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Lets the provider go on."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    # -- asyncio's side

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one by its methods, not by its class
        self._transport.set_write_buffer_limits(0)  # so that `resume_writing` means that all has gone

    @override
    def resume_writing(self) -> None:
        self._tell_sent()

    @override
    def data_received(self, data: bytes) -> None:
        if self._answer is None:
            self.abort()  # an answer that nobody asked for
            return
        fault = ""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as exc:
            fault = type(exc).__name__
        self._hand_over()
        if fault:
            self._fail(httpx2.RemoteProtocolError(f"the answer is not HTTP ({fault})"))
            self.abort()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._answer is not None and self._answer.status and not self._framed:
            self._answer.end()  # without a length the end of the connection is the answer's
        self._fail(httpx2.ReadError(str(exc)) if exc else httpx2.RemoteProtocolError("the connection ended too early"))
        self._owner.lost(self._origin, self)

    def _fail(self, failure: Exception) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.end(failure)

    def _tell_sent(self) -> None:
        sent, self._sent = self._sent, None
        if sent is not None:
            sent(self._watched)

    # -- httptools' side

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is whole; an interim one (100, 103) says nothing."""
        status, headers, self._headers = self._parser.get_status_code(), self._headers, []
        self._interim = status < 200
        if self._answer is not None and not self._interim:
            self._framed = any(name.lower() in _FRAMES for name, _ in headers)
            self._answer.begin(status, headers)

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._body.append(body)

    def _hand_over(self) -> None:
        """Gives on the pieces of one read together: a token is often a piece of its own."""
        body, self._body = self._body, []
        if body and self._answer is not None:
            self._answer.take(b"".join(body))

    def on_message_complete(self) -> None:
        """The answer is whole, and the connection free for the next."""
        if self._interim or self._answer is None:
            return
        self._hand_over()
        answer, self._answer = self._answer, None
        answer.end()
        self.unwatch()
        if self._parser.should_keep_alive():
            self._owner.free(self._origin, self)
        else:
            self.abort()


_FRAMES: Final = frozenset({b"content-length", b"transfer-encoding"})
