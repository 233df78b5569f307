"""What ASGI has no word for: to be told that the server stops, and to cut a connection whose reader is stuck.

Our server (server.py) puts the connection into the scope; under another server both are left to that one.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final, Protocol, cast

from starlette.types import Scope

EXTENSION: Final = "onceq.connection"


class Flow(Protocol):
    """Of uvicorn: whether a client takes what is written."""

    write_paused: bool


class Connection(Protocol):
    """One client's connection."""

    on_stop: Callable[[], object] | None
    flow: Flow

    def cut(self) -> None:
        """Drops it at once, with what has not been sent yet."""
        ...


def connection_of(scope: Scope) -> Connection | None:
    """The connection that a request came by; None under a server that is not ours."""
    return cast("Connection | None", scope.get("extensions", {}).get(EXTENSION))


def cut(scope: Scope) -> None:
    """Drops the connection that a request came by; nothing under a server that is not ours."""
    connection = connection_of(scope)
    if connection is not None:
        connection.cut()


def flows(scope: Scope) -> bool:
    """Whether a write would end at once; never known under a server that is not ours."""
    connection = connection_of(scope)
    return connection is not None and not connection.flow.write_paused


@contextmanager
def stopping(scope: Scope, then: Callable[[], object]) -> Generator[None]:
    """Inside, `then` is called when the server begins to stop."""
    connection = connection_of(scope)
    if connection is not None:
        connection.on_stop = then
    try:
        yield
    finally:
        if connection is not None:
            connection.on_stop = None
