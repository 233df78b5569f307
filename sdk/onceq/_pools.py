"""The connections that a call may use: a process and its children, or two event loops, must not share one.

`_drive.py` asks before each call. A transport that came from the caller is used wherever the client is.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncGenerator, Generator
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple, TypeVar

import httpx2

from onceq._closing import at_once
from onceq._config import Config
from onceq._http import ClientOptions, client_options
from onceq.errors import OnceqError

S = TypeVar("S")

_PARENTS: Final[list[object]] = []
"""What is in use by the process that this one was forked from. It is kept: to let go of it would close it."""


class Pool:
    """Connections for code that blocks: its own for each process."""

    def __init__(self, config: Config, transport: httpx2.BaseTransport | None) -> None:
        options = client_options(config)
        self._make = partial(httpx2.Client, transport=transport, verify=_tls(options, transport), **options)
        self._given = transport is not None
        self._closed = False
        self._by_process = {self._process: self._make()}

    @property
    def _process(self) -> int:
        return 0 if self._given else os.getpid()

    def here(self) -> httpx2.Client:
        """What this process uses; the parent's is left alone, not closed."""
        process = self._process
        return self._by_process.get(process) or self._by_process.setdefault(process, self._made())

    def _made(self) -> httpx2.Client:
        http = self._make()
        if self._closed:
            http.close()
        return http

    def close(self) -> None:
        """Close the connections of this process."""
        self._closed = True
        self.here().close()


class AsyncPool:
    """Connections for code that awaits: its own for each event loop, which closes them at its end."""

    def __init__(self, config: Config, transport: httpx2.AsyncBaseTransport | None) -> None:
        options = client_options(config)
        self._make = partial(httpx2.AsyncClient, transport=transport, verify=_tls(options, transport), **options)
        self._given = None if transport is None else self._make()
        self._closed = False
        self._process = os.getpid()
        self._by_loop: dict[asyncio.AbstractEventLoop, _Held] = {}

    async def here(self) -> httpx2.AsyncClient:
        """What the running loop uses in this process."""
        if self._given is not None:
            return self._given
        if self._process != os.getpid():
            _PARENTS.append(self._by_loop)
            self._process, self._by_loop = os.getpid(), {}
        held = self._by_loop.get(asyncio.get_running_loop())
        return (held or await self._hold()).http

    async def _hold(self) -> _Held:
        for ended in [loop for loop in list(self._by_loop) if loop.is_closed()]:
            self._by_loop.pop(ended, None)
        http = self._make()
        loop = asyncio.get_running_loop()
        held = self._by_loop[loop] = _Held(http, _closed_with_the_loop(http))
        loop.call_soon(_begin, held.keeper)  # not in here: the loop may not be meant to know what is begun in here
        if self._closed:
            await http.aclose()
        return held

    async def close(self) -> None:
        """Close the connections of the running loop; other loops close theirs."""
        self._closed = True
        if self._given is not None:
            await self._given.aclose()
        if self._process == os.getpid():
            held = self._by_loop.pop(asyncio.get_running_loop(), None)
            self._by_loop.clear()  # nobody holds their keepers any more, so that each closes in its loop
            if held is not None:
                await held.http.aclose()
                await held.keeper.aclose()


class _Held(NamedTuple):
    """One loop's connections, and what closes them."""

    http: httpx2.AsyncClient
    keeper: AsyncGenerator[None]


async def _closed_with_the_loop(http: httpx2.AsyncClient) -> AsyncGenerator[None]:
    """Begun in a loop, it is closed by that loop: at its end, or when nobody holds it any more."""
    process = os.getpid()
    try:
        yield
    finally:
        if os.getpid() == process:
            await at_once(http.aclose())


def _begin(keeper: AsyncGenerator[None]) -> None:
    with suppress(StopIteration, StopAsyncIteration):  # it has yielded, or was closed before
        keeper.__anext__().send(None)


def begun_here(steps: Generator[S], elsewhere: OnceqError | None = None) -> Generator[S]:
    """What `steps` yields, to the process that began it: a child closes nothing.

    A child that asks for more finds the end of it, or is raised `elsewhere`.
    """
    process = os.getpid()
    try:
        for step in steps:
            yield step
            if os.getpid() != process:
                if elsewhere is not None:
                    raise elsewhere
                return
    finally:
        if os.getpid() == process:
            steps.close()
        else:
            _PARENTS.append(steps)


def _tls(options: ClientOptions, transport: object) -> ssl.SSLContext | bool:
    """Whom TLS trusts, made once for all pools; nobody where there is none, since reading the system's certificates
    takes 30 ms of CPU, longer than everything else in a client.
    """
    if transport is not None:
        return True
    if options["base_url"].startswith("http:"):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return httpx2.create_ssl_context()  # of SSL_CERT_FILE where it is set, on this machine too
