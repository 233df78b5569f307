"""The connections that a call may use: a process and its children, or two event loops, must not share one.

`_drive.py` asks before each call. A transport that came from the caller is used wherever the client is.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Generator
from functools import partial
from typing import Final, TypeVar

import httpx2

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
    """Made once, not for each pool: it takes longer than everything else in one."""
    return transport is not None or httpx2.create_ssl_context(trust_env=options["trust_env"])
