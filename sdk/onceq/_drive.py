"""The only place that touches a socket or a clock's sleep: drives flows and readers, once blocking, once async.

The two classes are twins, line for line.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TypeVar

import httpx2

from onceq._config import Config
from onceq._http import Backoff, Call, Flow, Outcome, client_options, timeout
from onceq._stream import LARGEST_EVENT_BYTES, Gap, Reader, Step

T = TypeVar("T")


class Driver:
    """Blocks. `timeout_s` is the read timeout of a call that names none; `backoff` is for the flows to be run."""

    def __init__(
        self, config: Config, timeout_s: float, backoff: Backoff, transport: httpx2.BaseTransport | None
    ) -> None:
        self.backoff = backoff
        self._http = httpx2.Client(transport=transport, **client_options(config))
        self._timeout_s = timeout_s

    def run(self, flow: Flow[T]) -> T:
        """Send what the flow asks for until it returns."""
        try:
            call = next(flow)
            while True:
                call = flow.send(self._send(call))
        except StopIteration as end:
            return end.value

    def read(self, reader: Reader) -> Generator[Step]:
        """Follow a job to its end; leaving the iteration closes the connection."""
        while (call := reader.next_call()) is not None:
            time.sleep(call.after_s)
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

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def _send(self, call: Call) -> Outcome:
        time.sleep(call.after_s)
        limits = timeout(call.read_timeout_s or self._timeout_s)
        try:
            return self._http.request(
                call.method, call.path, params=call.params, headers=call.headers, content=call.content, timeout=limits
            )
        except httpx2.RequestError as exc:
            return exc

    def _open(self, call: Call) -> AbstractContextManager[httpx2.EventSource]:
        limits = timeout(call.read_timeout_s or self._timeout_s)
        return self._http.sse(call.path, headers=call.headers, timeout=limits, max_event_size=LARGEST_EVENT_BYTES)


class AsyncDriver:
    """Awaits. `timeout_s` is the read timeout of a call that names none; `backoff` is for the flows to be run."""

    def __init__(
        self, config: Config, timeout_s: float, backoff: Backoff, transport: httpx2.AsyncBaseTransport | None
    ) -> None:
        self.backoff = backoff
        self._http = httpx2.AsyncClient(transport=transport, **client_options(config))
        self._timeout_s = timeout_s

    async def run(self, flow: Flow[T]) -> T:
        """Send what the flow asks for until it returns."""
        try:
            call = next(flow)
            while True:
                call = flow.send(await self._send(call))
        except StopIteration as end:
            return end.value

    async def read(self, reader: Reader) -> AsyncGenerator[Step]:
        """Follow a job to its end; leaving the iteration closes the connection."""
        while (call := reader.next_call()) is not None:
            await asyncio.sleep(call.after_s)
            try:
                async with self._open(call) as source:
                    if source.response.status_code != 200:
                        await source.response.aread()
                    if reader.opened(source.response):
                        async for sse in source:
                            if (step := reader.feed(sse)) is not None:
                                yield step
                            if reader.done:
                                break
                        else:
                            reader.lost(None)
            except (httpx2.TransportError, Gap) as exc:
                reader.lost(exc)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def _send(self, call: Call) -> Outcome:
        await asyncio.sleep(call.after_s)
        limits = timeout(call.read_timeout_s or self._timeout_s)
        try:
            return await self._http.request(
                call.method, call.path, params=call.params, headers=call.headers, content=call.content, timeout=limits
            )
        except httpx2.RequestError as exc:
            return exc

    def _open(self, call: Call) -> AbstractAsyncContextManager[httpx2.EventSource]:
        limits = timeout(call.read_timeout_s or self._timeout_s)
        return self._http.sse(call.path, headers=call.headers, timeout=limits, max_event_size=LARGEST_EVENT_BYTES)
