"""How a blocking thread hands what it reads to the event loop: many posts, one waking."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Mapping

from onceq_service.providers._stream import CutError


class Mailbox:
    """Written by one thread, read by one task. It is not bounded: what a provider sends is paid for, and is read."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
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
        chunks = [self._chunks.popleft() for _ in range(len(self._chunks))]
        return b"".join(chunks)

    async def _wait(self) -> None:
        await self._bell.wait()
        self._bell.clear()
