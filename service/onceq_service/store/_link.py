"""One connection to Redis that many share: opened by redis-py, then written to and read from here.

Why: redis-py knows addresses, AUTH, TLS, databases and sockets, so it opens. But a command through it costs 75 us of
CPU in its pool, pipeline and coroutines, and turns of the event loop that its answer waits for; here bytes are written
at once and read by hiredis in the socket's own callback (figures in benchmarks/README.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import hiredis
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from onceq_service.wakeups import wakeups

Arg = str | bytes | int | float
Heard = Callable[[object], None]
"""Takes one reply; an error that Redis sends is a hiredis.ReplyError, also within a list."""
Lost = Callable[[Exception], None]
"""Told once that the connection is gone, and why."""

pack = cast(
    "Callable[[tuple[Arg, ...]], bytes]",
    hiredis.pack_command,  # pyright: ignore[reportUnknownMemberType] - its stub does not say what it returns
)
"""A command as Redis takes it; raises TypeError, and ValueError for text that is no UTF-8."""


class Link(asyncio.Protocol):
    """An open connection."""

    def __init__(self, heard: Heard, lost: Lost) -> None:
        self._heard, self._lost = heard, lost
        self._reader = hiredis.Reader()
        self._transport: asyncio.Transport | None = None
        self._streams: object = None
        self._why: Exception | None = None

    def take_over(self, transport: asyncio.Transport, streams: object) -> None:
        """From now on the connection is ours; `streams` are what it had before, and have to live as long."""
        self._transport, self._streams = transport, streams
        transport.set_protocol(self)
        wakeups().watch(transport)

    @property
    def open(self) -> bool:
        """Whether there is sense in writing to it."""
        return self._transport is not None and not self._transport.is_closing()

    def write(self, commands: bytes) -> None:
        """Sends what `pack` made; call only while it is `open`."""
        cast("asyncio.Transport", self._transport).write(commands)

    def data_received(self, data: bytes) -> None:
        """asyncio's word for what came in."""
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not False:
                self._heard(reply)
        except hiredis.ProtocolError as exc:
            self.cut(RedisConnectionError(f"the answer is not Redis's protocol: {exc}"))

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's word for the end."""
        self._lost(self._why or RedisConnectionError(str(exc or "the connection was closed by Redis")))

    def cut(self, why: Exception) -> None:
        """Drops the connection, what was not sent yet included."""
        self._why = why
        if self._transport is not None:
            self._transport.abort()


async def open_link(client: Redis, heard: Heard, lost: Lost) -> Link:
    """A connection of the kind that `client` has; raises redis-py's errors where there is none."""
    connection: Any = client.connection_pool.make_connection()
    await _connect(connection)
    streams = connection._reader, connection._writer
    connection._reader = connection._writer = None  # nothing of redis-py closes it any more
    reader, transport = streams[0], streams[1].transport
    if reader.at_eof() or reader.exception() or transport.is_closing():  # redis-py's reader heard, the link would not
        transport.abort()
        raise RedisConnectionError("Redis closed the connection as soon as it was open")
    link = Link(heard, lost)
    link.take_over(transport, streams)
    return link


async def _connect(connection: Any) -> None:
    """A cancel ends it at once: redis-py swallows one that comes while it greets Redis, so it is told until it ends."""
    connecting = asyncio.ensure_future(connection.connect())
    try:
        await asyncio.wait([connecting])
    except asyncio.CancelledError:
        while not connecting.done():
            connecting.cancel()
            await asyncio.sleep(0)
        if not connecting.cancelled() and connecting.exception() is None:
            connection._writer.transport.abort()
        await connection.disconnect(nowait=True)
        raise
    try:
        connecting.result()
    except (RuntimeError, TypeError) as exc:  # uvloop's, and Python 3.13's, for a write to what is closed: no OSError
        await connection.disconnect(nowait=True)
        raise RedisConnectionError("Redis closed the connection while it was greeted") from exc
