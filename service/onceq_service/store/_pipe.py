"""The one way to Redis for commands: all calls of one turn of the event loop leave in one write, over one connection.

Concurrent posts and the appends of many jobs share round trips without knowing of each other. When the connection
breaks or falls silent, what had no answer is sent once more over a new one: every script is idempotent. After that its
caller hears of it, and knows whether to try again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import hiredis
from redis.asyncio import Redis
from redis.asyncio.connection import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import (
    AuthenticationError,
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from onceq_service.store._link import Arg, Link, open_link, pack
from onceq_service.store._lua import Script
from onceq_service.store.errors import StoreDenied, StoreError, StoreFull, StoreUnavailable

TIMEOUT_S = 5.0
"""How long an answer may take."""
AGAIN_S = 1.0
"""The shortest time between two looks for the primary behind Redis's name."""
_AWAY = (RedisConnectionError, RedisTimeoutError, OSError, asyncio.TimeoutError)
_NOT_NOW = (ReadOnlyError, MasterDownError, ClusterDownError, TryAgainError)
"""redis-py's kinds of the first of these words, which its messages then lack."""
_NOT_NOW_WORDS = (
    "LOADING",
    "READONLY",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "NOREPLICAS",
    "TRYAGAIN",
    "MISCONF",
    "UNKILLABLE",
    "BUSY",
    "UNBLOCKED",
)
_REPLICA_WORDS = ("READONLY", "MASTERDOWN")
"""A primary that became a replica closes nobody: whoever stays would be refused for ever."""
_MAY_NOT = ("NOPERM", "ACL failure", "The user executing the script can't")
"""What a command is told, and what a command in a script is, by Redis 7.2 and by 7.0."""


def connect(url: str, *, connections: int, timeout_s: float = TIMEOUT_S, retries: int = 1) -> Redis:
    """A redis-py client with bounded connections, explicit timeouts, and at most `retries` quick retries."""
    pool = BlockingConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType] - redis-py: untyped kwargs
        url,
        max_connections=connections,
        timeout=timeout_s,
        socket_timeout=timeout_s,
        socket_connect_timeout=min(2.0, timeout_s),
        retry=Retry(ConstantBackoff(0.02), retries),
        protocol=2,
    )
    client = Redis.from_pool(pool)
    client.response_callbacks.clear()  # replies as Redis sends them, in every command
    return client


def translate(exc: BaseException) -> StoreError:
    """Redis's errors in our words, with their cause: for logs and operators. The one door for them."""
    if isinstance(exc.__cause__, (AuthenticationError, NoPermissionError)):
        exc = exc.__cause__  # redis-py makes a ConnectionError of whatever goes wrong while it greets Redis
    said = _cause(exc)
    refused = isinstance(exc, (ResponseError, hiredis.ReplyError))
    if isinstance(exc, OutOfMemoryError) or (refused and said.startswith("OOM")):
        return StoreFull("Redis is at its memory limit; nothing was stored. Free memory or raise maxmemory.")
    if isinstance(exc, NoPermissionError) or (refused and any(words in said for words in _MAY_NOT)):
        return StoreDenied(f"this user of Redis may not do what onceq needs ({said}); grant it by ACL SETUSER.")
    if isinstance(exc, AuthenticationError) or (refused and said.startswith(("NOAUTH", "WRONGPASS"))):
        return StoreDenied(f"Redis refuses the user or the password of ONCEQ_REDIS_URL ({said}).")
    if isinstance(exc, _NOT_NOW) or (refused and said.startswith(_NOT_NOW_WORDS)):
        return StoreUnavailable(f"Redis takes no commands now ({said}); try again shortly.")
    if isinstance(exc, _AWAY):
        return StoreUnavailable(f"Redis can't be reached ({said or type(exc).__name__}); try again shortly.")
    return StoreError(f"Redis refused a command: {said}")


def _cause(exc: BaseException) -> str:
    """The first line of what was said. An unknown command is told with its arguments: a password of AUTH, a prompt."""
    return str(exc).partition("\n")[0].partition(", with args beginning with")[0][:300]


@dataclass(slots=True)
class _Asked:
    """A command that has no answer yet."""

    command: bytes
    """As Redis takes it."""
    answer: asyncio.Future[Any] | None
    script: Script | None = None
    again: bool = False
    """It was sent before, over a connection that broke."""
    loaded: bool = False
    """Its script was sent to Redis."""
    sent_at: float = 0.0


class Pipe:
    """Sends commands and scripts; concurrent calls share a write."""

    def __init__(self, client: Redis, *, timeout_s: float = TIMEOUT_S) -> None:
        self.client, self._timeout_s = client, timeout_s
        self._link: Link | None = None
        self._opening: asyncio.Task[None] | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._waiting: list[_Asked] = []
        self._sent: deque[_Asked] = deque()
        self._left_at = -AGAIN_S
        self.moved: set[Callable[[], None]] = set()
        """Told when a replica answered: connections of others may be to the wrong Redis, too."""

    @property
    def waits(self) -> bool:
        """Whether a command is with Redis now: what comes back is read as soon as it is there."""
        return bool(self._sent)

    def command(self, *args: Arg) -> Awaitable[Any]:
        """One plain command; raises StoreError and its kinds."""
        return self._ask(args, None)

    def script(self, script: Script, root: str, args: Sequence[Arg]) -> Awaitable[Any]:
        """One script by its SHA, loaded first where Redis does not know it."""
        return self._ask(("EVALSHA", script.sha, 1, root, *args), script)

    def _ask(self, args: tuple[Any, ...], script: Script | None) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        try:
            asked = _Asked(pack(args), answer, script)
        except (TypeError, ValueError) as exc:  # before anything is sent: what follows must get its own answers
            answer.set_exception(StoreError(f"a command for Redis can't be written: {exc}"))
            return answer
        if not self._waiting:
            loop.call_soon(self.flush)
        self._waiting.append(asked)
        return answer

    def flush(self) -> None:
        """Sends what waits, without waiting for the end of the turn."""
        if not self._waiting:
            return
        if self._link is None:
            self._opening = self._opening or asyncio.get_running_loop().create_task(self._open())
        elif self._link.open:  # else `_lost` is about to be told
            asked, self._waiting = self._waiting, []
            self._send(self._link, asked)

    def _send(self, link: Link, asked: Sequence[_Asked]) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for one in asked:
            one.sent_at = now
        self._sent.extend(asked)
        link.write(b"".join([one.command for one in asked]))
        if self._watch is None:
            self._watch = loop.call_later(self._timeout_s, self._look)

    async def _open(self) -> None:
        try:
            self._link = await open_link(self.client, self._heard, self._lost)
        except BaseException as exc:  # noqa: BLE001 - every waiter must hear of it, whatever it is
            self._fail(exc)
        finally:
            self._opening = None
        self.flush()

    def _fail(self, exc: BaseException) -> None:
        asked, self._waiting = self._waiting, []
        for one in asked:
            settle(one.answer, exc)

    def _heard(self, reply: object) -> None:
        """The answer to what was sent first."""
        one = self._sent.popleft()
        said = str(reply) if isinstance(reply, hiredis.ReplyError) else ""
        unknown = said.startswith("NOSCRIPT")
        if unknown and one.script is not None and not one.loaded and self._link is not None:
            one.loaded = True
            self._send(self._link, [_Asked(pack(("SCRIPT", "LOAD", one.script.text)), None), one])
        else:
            settle(one.answer, reply)
            if said.startswith(_REPLICA_WORDS):
                self._leave(said)

    def _leave(self, said: str) -> None:
        """What comes next goes over a new connection, to whatever Redis's name leads to by then."""
        now = asyncio.get_running_loop().time()
        if self._link is not None and now - self._left_at >= AGAIN_S:
            self._left_at = now
            self._link.cut(RedisConnectionError(said))
            for tell in self.moved:
                tell()

    def _lost(self, why: Exception) -> None:
        """The connection is gone: what it owes to somebody who still waits is asked once more."""
        owed, self._link = self._sent, None
        self._sent = deque()
        once_more = [one for one in owed if not one.again and one.answer is not None and not one.answer.done()]
        for one in owed:
            if one.again:
                settle(one.answer, why)
            one.again, one.loaded = True, False
        self._waiting[:0] = once_more
        self.flush()

    def _look(self) -> None:
        """Whether Redis has been silent for too long."""
        self._watch = None
        if not self._sent:
            return
        loop = asyncio.get_running_loop()
        due = self._sent[0].sent_at + self._timeout_s
        if due <= loop.time() and self._link is not None:
            self._link.cut(RedisTimeoutError("Redis did not answer in time"))
        else:
            self._watch = loop.call_at(due, self._look)

    async def close(self) -> None:
        """Waits for what is under way, then closes the connection."""
        while under_way := [
            one.answer for one in (*self._waiting, *self._sent) if one.answer and not one.answer.done()
        ]:
            await asyncio.wait(under_way)
        self._waiting.clear()  # nobody waits for it any more, and no connection may be opened for it
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        if self._watch is not None:
            self._watch.cancel()
        if self._link is not None:
            self._link.cut(RedisConnectionError("closed by us"))
        await self.client.aclose()


def settle(answer: asyncio.Future[Any] | None, reply: object) -> None:
    """Gives a waiter its reply, or the error that it is, in our words."""
    if answer is None or answer.done():
        return
    if isinstance(reply, asyncio.CancelledError):
        answer.cancel()
    elif isinstance(reply, (RedisError, hiredis.ReplyError, *_AWAY)):
        error = translate(reply)
        error.__cause__ = reply
        answer.set_exception(error)
    elif isinstance(reply, BaseException):
        answer.set_exception(reply)
    else:
        answer.set_result(reply)
