"""The connections under the store, when Redis goes away in the middle of a command."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import ClassVar

import pytest
import uvloop
from redis.asyncio.connection import UnixDomainSocketConnection

from onceq_service.embedded.redis_server import EmbeddedRedis
from onceq_service.store import StoreUnavailable
from onceq_service.store._pipe import Pipe, connect


class Fragile(UnixDomainSocketConnection):
    """A connection that Redis closes just before a command is written, once it is `breaking`."""

    breaking: ClassVar[bool] = False

    async def _send_packed_command(self, command: Iterable[bytes]) -> None:
        assert self._writer is not None
        if self.breaking:
            self._writer.transport.abort()
            await asyncio.sleep(0.01)  # a turn of the loop: the handle is gone now
        self._writer.writelines(command)


def test_a_transport_that_was_closed_under_a_command_is_a_cut_like_any_other(redis_server: EmbeddedRedis) -> None:
    """uvloop raises RuntimeError there, which no caller would take for Redis being away."""

    async def ask() -> None:
        pipe = Pipe(connect(redis_server.url, connections=1, kind=Fragile))
        try:
            assert await pipe.command("PING") == b"PONG"
            Fragile.breaking = True
            await pipe.command("PING")
        finally:
            await pipe.close()

    with pytest.raises(StoreUnavailable):
        uvloop.run(ask())
