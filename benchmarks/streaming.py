"""Streams read over raw connections: questions asked at onceq (202, then the events) or at the provider itself.

Both are timed from the question's first byte to the first token and to the end marker.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from typing import Final, Literal, cast
from urllib.parse import urlsplit

import uvloop
from typing_extensions import override

from benchmarks.deployment import MODEL, Deployment
from benchmarks.posting import post_head, whole

Way = Literal["direct", "onceq"]
OVERLAP: Final = 64
"""Bytes kept of the last read: a mark may be cut in two."""
LAST_CHUNK: Final = b"\r\n0\r\n\r\n"
"""Of an answer in chunks."""
TIMEOUT_S: Final = 120.0


class StreamError(RuntimeError):
    """A stream ended otherwise than it should."""


@dataclass(frozen=True, slots=True)
class StreamTiming:
    """One stream, by time.perf_counter(): when it was asked for, when its first token and its end came."""

    asked: float
    first: float
    ended: float


@dataclass(frozen=True, slots=True)
class Marks:
    """What tells a stream's first token and its end."""

    first: bytes
    end: bytes
    failed: tuple[bytes, ...]


MARKS: Final[dict[Way, Marks]] = {
    "direct": Marks(b'"delta":{"content"', b"data: [DONE]", (b'"error"',)),
    "onceq": Marks(b"event: delta", b"event: succeeded", (b"event: failed", b"event: expired")),
}


def stream(deployment: Deployment, way: Way, streams: int, each: int, directive: str) -> list[StreamTiming]:
    """`streams` readers at once, each of which asks `each` questions, one after the other."""
    return uvloop.run(_all(deployment, way, streams, each, directive))


async def _all(deployment: Deployment, way: Way, streams: int, each: int, directive: str) -> list[StreamTiming]:
    readers = await asyncio.gather(*(_reader(deployment, way, each, directive) for _ in range(streams)))
    return [one for timings in readers for one in timings]


async def _reader(deployment: Deployment, way: Way, each: int, directive: str) -> list[StreamTiming]:
    loop, address = asyncio.get_running_loop(), deployment.provider if way == "direct" else deployment.api
    _, line = await loop.create_connection(lambda: _Line(MARKS[way]), address.host, address.port)
    try:
        ask = _ask_provider if way == "direct" else _ask_onceq
        return [await ask(line, deployment, directive) for _ in range(each)]
    finally:
        line.close()


async def _ask_provider(line: _Line, deployment: Deployment, directive: str) -> StreamTiming:
    body = b'{"model":"%b","messages":%b,"stream":true,"stream_options":{"include_usage":true}}' % (
        MODEL.encode(), _messages(directive),
    )  # fmt: skip
    head = (
        b"POST %b HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer %b\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n"
    ) % (urlsplit(deployment.completions).path.encode(), deployment.provider_key.encode(), len(body))
    return await line.listen(time.perf_counter(), head + body)


async def _ask_onceq(line: _Line, deployment: Deployment, directive: str) -> StreamTiming:
    body = b'{"model":"openai/%b","messages":%b}' % (MODEL.encode(), _messages(directive))
    asked = time.perf_counter()
    answer = await line.exchange(post_head(deployment.api_key, len(body), os.urandom(8).hex().encode()) + body)
    assert answer.startswith(b"HTTP/1.1 202"), answer
    path = answer.split(b"location: ", 1)[1].split(b"\r", 1)[0]
    head = b"GET %b/events HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer %b\r\n\r\n"
    return await line.listen(asked, head % (path, deployment.api_key.encode()))


def _messages(directive: str) -> bytes:
    return b'[{"role":"user","content":"Tell me of lighthouse %b. %b"}]' % (
        os.urandom(8).hex().encode(), directive.encode(),
    )  # fmt: skip


class _Line(asyncio.Protocol):
    """A connection that looks for marks in what passes; it keeps nothing else."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks
        self._transport: asyncio.Transport | None = None
        self._tail = b""
        self._first = 0.0
        self._over = False
        self._answer: asyncio.Future[bytes] | None = None
        self._end: asyncio.Future[float] | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one by its methods, not by its class

    def close(self) -> None:
        """Ends the connection."""
        if self._transport is not None:
            self._transport.close()

    async def exchange(self, request: bytes) -> bytes:
        """One request and its whole answer."""
        self._answer, self._tail = asyncio.get_running_loop().create_future(), b""
        self._send(request)
        return await asyncio.wait_for(self._answer, TIMEOUT_S)

    async def listen(self, asked: float, request: bytes) -> StreamTiming:
        """One request and its stream, to the end of the answer."""
        self._answer, self._tail, self._first, self._over = None, b"", 0.0, False
        self._end = asyncio.get_running_loop().create_future()
        self._send(request)
        ended = await asyncio.wait_for(self._end, TIMEOUT_S)
        return StreamTiming(asked, self._first or ended, ended)

    def _send(self, request: bytes) -> None:
        assert self._transport is not None
        self._transport.write(request)

    @override
    def data_received(self, data: bytes) -> None:
        seen = self._tail + data
        if self._answer is not None:
            self._tail = seen
            if whole(seen) and not self._answer.done():
                self._answer.set_result(seen)
            return
        self._tail = seen[-OVERLAP:]
        self._look(seen)

    def _look(self, seen: bytes) -> None:
        marks, now = self._marks, time.perf_counter()
        if not self._first and marks.first in seen:
            self._first = now
        if self._end is None or self._end.done():
            return
        if any(mark in seen for mark in marks.failed):
            self._end.set_exception(StreamError(f"the stream failed: {seen[-2000:]!r}"))
            return
        self._over = self._over or marks.end in seen
        if self._over and seen.endswith(LAST_CHUNK):
            self._end.set_result(now)
