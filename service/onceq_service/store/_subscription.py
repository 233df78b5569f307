"""Channels of Pub/Sub over one connection that comes back by itself; the socket's callback hands messages on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from onceq_service.store._link import Link, open_link, pack

AGAIN_S = 0.1


class Subscription:
    """`heard` takes each message; `fresh` a channel that is subscribed to from now on, also after a cut: what was
    published before it was missed. start() and stop() belong to one event loop.
    """

    def __init__(self, client: Redis, heard: Callable[[bytes], None], fresh: Callable[[str], None]) -> None:
        self._client, self._heard, self._fresh = client, heard, fresh
        self._wanted: dict[str, int] = {}
        self._link: Link | None = None
        self._needed, self._gone = asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def join(self, channel: str) -> None:
        """One more listens to the channel."""
        self._wanted[channel] = self._wanted.get(channel, 0) + 1
        if self._wanted[channel] == 1:
            self._say("SUBSCRIBE", channel)
        self._needed.set()

    def leave(self, channel: str) -> None:
        """One less."""
        self._wanted[channel] -= 1
        if not self._wanted[channel]:
            del self._wanted[channel]
            self._say("UNSUBSCRIBE", channel)

    def renew(self) -> None:
        """Listens over a new connection from now on."""
        self._refused("this Redis is the primary no more")

    def start(self) -> None:
        """Connects as soon as there is something to listen to."""
        self._task = asyncio.create_task(self._keep(), name="subscription")

    async def stop(self) -> None:
        """Closes the connection."""
        if self._task is not None:
            self._task.cancel()
        if self._link is not None:
            self._link.cut(ConnectionError("closed by us"))
        if self._task is not None:
            await asyncio.wait([self._task])

    def _say(self, word: str, *channels: str) -> None:
        if self._link is not None and self._link.open:
            self._link.write(pack((word, *channels)))

    async def _keep(self) -> None:
        while True:
            await self._needed.wait()
            self._gone.clear()
            with suppress(RedisError, OSError):
                self._link = await open_link(self._client, self._take, self._lost)
                if self._wanted:
                    self._say("SUBSCRIBE", *self._wanted)
                await self._gone.wait()
            self._link = None
            await asyncio.sleep(AGAIN_S)
            if not self._wanted:
                self._needed.clear()

    def _lost(self, _why: Exception) -> None:
        self._gone.set()

    def _refused(self, reply: object) -> None:
        """Redis does not let us listen now; a new connection asks again."""
        if self._link is not None:
            self._link.cut(RedisConnectionError(str(reply)))

    def _take(self, reply: object) -> None:
        if not isinstance(reply, list):
            self._refused(reply)
            return
        kind, channel, what = cast("tuple[bytes, bytes, bytes]", reply)
        if kind == b"message":
            self._heard(what)
        elif kind == b"subscribe":
            self._fresh(channel.decode())
