"""The only place that touches a socket or a clock's sleep: drives flows and readers, once blocking, once async.

The two classes are twins; only what awaits has a notebook's loop to wake.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

import httpx2

from onceq._config import Config
from onceq._follow import LARGEST_EVENT_BYTES, Follower, Gap, StreamEvent
from onceq._http import Backoff, Call, Flow, Outcome, timeout
from onceq._pools import AsyncPool, Pool, begun_here

if TYPE_CHECKING:
    from onceq.map.row import MapRow
    from onceq.map.run import Steps

T = TypeVar("T")
S = TypeVar("S")

WAKE_S: Final = 0.2
"""How long an interrupt of a notebook's awaiting cell may go unnoticed."""


class Driver:
    """Blocks. `timeout_s` is the read timeout of a call that names none; `backoff` is for the flows to be run."""

    def __init__(
        self, config: Config, timeout_s: float, backoff: Backoff, transport: httpx2.BaseTransport | None
    ) -> None:
        self.backoff = backoff
        self._pool = Pool(config, transport)
        self._timeout_s = timeout_s

    def run(self, flow: Flow[T]) -> T:
        """Send what the flow asks for until it returns."""
        try:
            call = next(flow)
            while True:
                call = flow.send(self._send(call))
        except StopIteration as end:
            return end.value

    def read(self, reader: Follower[S]) -> Generator[S]:
        """Follow a job, or a batch, to its end; leaving the iteration closes the connection."""
        while (call := reader.next_call()) is not None:
            yield from begun_here(self._listen(call, reader))

    def walk(self, steps: Steps) -> Generator[list[MapRow]]:
        """Do what a map's flow asks for, and hand on its rows; leaving the iteration closes the connection."""
        listening: Generator[StreamEvent] | None = None
        answer: object = None
        try:
            while True:
                step = steps.send(answer)
                answer = None
                if isinstance(step, Call):
                    answer = self._send(step)
                elif isinstance(step, list):
                    yield step
                else:
                    listening = listening or self.read(step)
                    answer = next(listening, None)
                    listening = None if answer is None else listening
        except StopIteration:
            return
        finally:
            steps.close()
            if listening is not None:
                listening.close()

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()

    def _send(self, call: Call) -> Outcome:
        time.sleep(call.after_s)
        limits = timeout(call.read_timeout_s or self._timeout_s)
        try:
            return self._pool.here().request(
                call.method, call.path, params=call.params, headers=call.headers, content=call.content, timeout=limits
            )
        except httpx2.RequestError as exc:
            return exc

    def _listen(self, call: Call, reader: Follower[S]) -> Generator[S]:
        try:
            with self._open(call) as source:
                if source.response.status_code != 200:
                    source.response.read()
                if reader.opened(source.response):
                    for sse in source:
                        if (step := reader.feed(sse)) is not None:
                            yield step
                        if reader.done:
                            break
                    else:
                        reader.lost(None)
        except (httpx2.TransportError, Gap) as exc:
            reader.lost(exc)

    def _open(self, call: Call) -> AbstractContextManager[httpx2.EventSource]:
        time.sleep(call.after_s)
        limits = timeout(call.read_timeout_s or self._timeout_s)
        http = self._pool.here()
        return http.sse(call.path, headers=call.headers, timeout=limits, max_event_size=LARGEST_EVENT_BYTES)


class AsyncDriver:
    """Awaits. `timeout_s` is the read timeout of a call that names none; `backoff` is for the flows to be run."""

    def __init__(
        self, config: Config, timeout_s: float, backoff: Backoff, transport: httpx2.AsyncBaseTransport | None
    ) -> None:
        self.backoff = backoff
        self._pool = AsyncPool(config, transport)
        self._timeout_s = timeout_s

    async def run(self, flow: Flow[T]) -> T:
        """Send what the flow asks for until it returns."""
        try:
            call = next(flow)
            while True:
                call = flow.send(await self._send(call))
        except StopIteration as end:
            return end.value

    async def read(self, reader: Follower[S]) -> AsyncGenerator[S]:
        """Follow a job, or a batch, to its end; leaving the iteration closes the connection."""
        while (call := reader.next_call()) is not None:
            try:
                async with self._open(call) as source:
                    if source.response.status_code != 200:
                        await source.response.aread()
                    if reader.opened(source.response):
                        events = aiter(source)  # let go behind the connection: before, it would have to wait for that
                        async for sse in events:
                            if (step := reader.feed(sse)) is not None:
                                yield step
                            if reader.done:
                                break
                        else:
                            reader.lost(None)
            except (httpx2.TransportError, Gap) as exc:
                reader.lost(exc)

    async def walk(self, steps: Steps) -> AsyncGenerator[list[MapRow]]:
        """Do what a map's flow asks for, and hand on its rows; leaving the iteration closes the connection."""
        listening: AsyncGenerator[StreamEvent] | None = None
        answer: object = None
        try:
            while True:
                step = steps.send(answer)
                answer = None
                if isinstance(step, Call):
                    answer = await self._send(step)
                elif isinstance(step, list):
                    yield step
                else:
                    listening = listening or self.read(step)
                    answer = await anext(listening, None)
                    listening = None if answer is None else listening
        except StopIteration:
            return
        finally:
            steps.close()
            if listening is not None:
                await listening.aclose()

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.close()

    async def _send(self, call: Call) -> Outcome:
        limits = timeout(call.read_timeout_s or self._timeout_s)
        with _waking():
            await asyncio.sleep(call.after_s)
            http = await self._pool.here()
            try:
                return await http.request(
                    call.method, call.path, params=call.params, headers=call.headers, content=call.content,
                    timeout=limits,
                )  # fmt: skip
            except httpx2.RequestError as exc:
                return exc

    @asynccontextmanager
    async def _open(self, call: Call) -> AsyncGenerator[httpx2.EventSource]:
        limits = timeout(call.read_timeout_s or self._timeout_s)
        with _waking():
            await asyncio.sleep(call.after_s)
            http = await self._pool.here()
            async with http.sse(
                call.path, headers=call.headers, timeout=limits, max_event_size=LARGEST_EVENT_BYTES
            ) as source:
                yield source


@contextmanager
def _waking() -> Generator[None]:
    """Lets an awaiting cell be interrupted at once: ipykernel notes the signal, but does not wake its loop for it."""
    ticks = asyncio.create_task(_ticks()) if "ipykernel" in sys.modules else None
    try:
        yield
    finally:
        if ticks is not None:
            ticks.cancel()


async def _ticks() -> None:
    while True:  # noqa: ASYNC110 - nothing is waited for
        await asyncio.sleep(WAKE_S)
