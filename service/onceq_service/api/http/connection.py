"""What ASGI has no word for: to be told at once that the client leaves or the server stops, and to cut a connection.

Our server (protocol.py) puts the connection into the scope; under another server nobody is told and nothing is cut.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, cast

from starlette.types import Scope

EXTENSION: Final = "onceq.connection"


class Flow(Protocol):
    """Of uvicorn: whether a client takes what is written."""

    write_paused: bool


class Connection(Protocol):
    """One client's connection."""

    on_end: Callable[[], object] | None
    ending: bool
    """The client has left, or the server has begun to stop."""
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


class until_end:  # noqa: N801 - a context manager as contextlib's are; one that ten thousand streams can afford
    """Inside, `then` is called when the client leaves or the server begins to stop; at once where that has been."""

    __slots__ = ("_connection", "_then")

    def __init__(self, scope: Scope, then: Callable[[], object]) -> None:
        self._connection, self._then = connection_of(scope), then

    def __enter__(self) -> None:
        if self._connection is not None:
            self._connection.on_end = self._then
            if self._connection.ending:
                self._then()

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.on_end = None
