"""How a blocking thread hands what it reads to the event loop: many posts, one waking."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Mapping

from onceq_service.providers._stream import CutError, Look

MOST_BYTES = 1024**2


class Mailbox:
    """Written by one thread, read by one task. While the task does not read, the thread waits with MOST_BYTES."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._room = threading.Condition()
        self._unread, self._closed = 0, False
        self._rung = False
        self._bell = asyncio.Event()
        self._chunks: deque[bytes] = deque()
        self._headers: Mapping[str, str] | None = None
        self._failure: Exception | None = None
        self._ended = False

    # -- the thread's side

    def post_headers(self, headers: Mapping[str, str]) -> None:
        """The provider has begun to answer."""
        self._headers = headers
        self._ring()

    def post(self, chunk: bytes) -> None:
        """One read of the socket."""
        with self._room:
            self._room.wait_for(lambda: self._unread < MOST_BYTES or self._closed)
            self._unread += len(chunk)
        self._chunks.append(chunk)
        self._ring()

    def post_end(self, failure: Exception | None) -> None:
        """The last post: the stream has ended, cleanly when `failure` is None."""
        self._failure = failure
        self._ended = True
        self._ring()

    def _ring(self) -> None:
        """One waking of the loop for everything that is posted until it comes round."""
        if not self._rung:
            self._rung = True
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody reads any more
                self._loop.call_soon_threadsafe(self._wake)

    # -- the loop's side

    def _wake(self) -> None:
        self._rung = False
        self._bell.set()

    async def headers(self) -> Mapping[str, str]:
        """The answer's headers; raises whatever the thread met instead."""
        while self._headers is None:
            if self._failure is not None:
                raise self._failure
            await self._wait()
        return self._headers

    async def read(self, by: float) -> bytes | None:
        """All that came since the last read (_stream.Source)."""
        while not self._chunks:
            if self._failure is not None:
                raise CutError from self._failure
            if self._ended:
                return None
            async with asyncio.timeout_at(by):
                await self._wait()
        read = b"".join([self._chunks.popleft() for _ in range(len(self._chunks))])
        with self._room:
            self._unread -= len(read)
            self._room.notify()
        return read

    def hand_to(self, look: Look) -> None:
        """See _stream.Source: a waking of the loop has all that came until then, and hands it over by `read`."""

    def unwatch(self) -> None:
        """See _stream.Source: its thread rings, no socket of the loop."""

    def close(self) -> None:
        """Nobody reads any more: the thread need not wait."""
        with self._room:
            self._closed = True
            self._room.notify()

    async def _wait(self) -> None:
        await self._bell.wait()
        self._bell.clear()
