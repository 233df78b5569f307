"""One connection to Redis whose replies are parsed in C as they arrive; the pipe and the bus stand on it.

redis-py opens it (URL, TLS, password, database). In between its reader and writer are taken out of the way: they cost
16 us of a client's CPU a command in pipelines of 16, this costs 4 (benchmarks/README.md, "store").
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import hiredis
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from typing_extensions import override

Arg = str | bytes | int | float
Reply = Any
"""bytes, int, None, a list of them, or hiredis.ReplyError."""

CONNECT_S = 2.0
HANDSHAKE_S = 5.0

pack = cast(
    "Callable[[tuple[Arg, ...]], bytes]",
    hiredis.pack_command,  # pyright: ignore[reportUnknownMemberType] - its stub does not say what it returns
)


def dialer(url: str) -> Callable[[], AbstractConnection]:
    """Makes connections to a Redis URL, not yet opened; raises ValueError for one that is none."""
    pool = ConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType] - redis-py: untyped kwargs
        url,
        socket_timeout=HANDSHAKE_S,
        socket_connect_timeout=CONNECT_S,
        retry=Retry(ConstantBackoff(0.02), 1),
        protocol=2,
    )
    return pool.make_connection


class Wire(asyncio.Protocol):
    """An open connection. Every reply goes to `on_reply`; `on_lost` is called once, however it ends."""

    def __init__(self, writer: asyncio.StreamWriter, on_reply: Callable[[Reply], None], on_lost: Callable[[], None]):
        self._kept = writer  # its transport would be closed with it
        self._transport = cast("asyncio.Transport", writer.transport)
        self._on_reply, self._on_lost = on_reply, on_lost
        self._reader = hiredis.Reader(notEnoughData=self)
        self._closed = asyncio.get_running_loop().create_future()
        self._transport.set_protocol(self)

    @classmethod
    async def open(
        cls, dial: Callable[[], AbstractConnection], on_reply: Callable[[Reply], None], on_lost: Callable[[], None]
    ) -> Wire:
        """Connects; raises RedisError or OSError."""
        connection = cast("Any", dial())
        await connection.connect()
        writer = connection._writer
        connection._writer = connection._reader = None  # redis-py lets go of it
        return cls(writer, on_reply, on_lost)

    def send(self, packed: bytes) -> None:
        """Writes commands; never waits."""
        self._transport.write(packed)

    def cut(self) -> None:
        """Drops the connection at once."""
        self._transport.abort()

    async def close(self) -> None:
        """Closes it, and returns when it is closed."""
        self._transport.close()
        await self._closed

    @override
    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        gets, on_reply = self._reader.gets, self._on_reply
        while (reply := gets()) is not self:
            on_reply(reply)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if not self._closed.done():
            self._closed.set_result(None)
        self._on_lost()
