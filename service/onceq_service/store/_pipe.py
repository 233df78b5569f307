"""The one way to Redis for commands: all calls of one turn of the event loop leave in one write, on one connection.

So concurrent posts, and the appends of many jobs, share round trips without knowing of each other; a command costs
4 us of CPU instead of redis-py's 73-78 (FINDINGS.md). What was under way when a connection broke is sent once more on
a new one, else nothing is retried here: every script is idempotent, and its caller knows whether to try again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import hiredis
from redis.asyncio import Redis
from redis.asyncio.connection import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from onceq_service.store._lua import Script
from onceq_service.store._wire import Arg, Reply, Wire, dialer, pack
from onceq_service.store.errors import StoreError, StoreFull, StoreUnavailable

CHECK_S = 2.5
"""How often the oldest command is looked at: one without a reply is given up after 2.5 to 5 s."""
_AWAY = (RedisConnectionError, RedisTimeoutError, OSError, asyncio.TimeoutError)
_AWAY_WORDS = (
    "LOADING",
    "READONLY",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "NOREPLICAS",
    "TRYAGAIN",
    "MISCONF",
    "UNKILLABLE",
    "BUSY",
)


def connect(url: str, *, connections: int, timeout_s: float = 5.0, retries: int = 1) -> Redis:
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
    return Redis.from_pool(pool)


def translate(exc: BaseException) -> StoreError:
    """Redis's errors in our words; the one door for them."""
    text = str(exc)
    if isinstance(exc, OutOfMemoryError) or text.startswith("OOM"):
        return StoreFull("Redis is at its memory limit; nothing was stored. Free memory or raise maxmemory.")
    refused = isinstance(exc, (ResponseError, hiredis.ReplyError))
    if isinstance(exc, _AWAY) or (refused and text.startswith(_AWAY_WORDS)):
        return StoreUnavailable(f"Redis can't be reached ({type(exc).__name__}); try again shortly.")
    return StoreError(f"Redis refused a command: {exc}")


@dataclass(slots=True, eq=False)
class _Asked:
    """A command, packed, and who waits for its reply."""

    packed: bytes
    future: asyncio.Future[Any]
    script: Script | None
    sent_again: bool = False
    loaded: bool = False


class Pipe:
    """Sends commands and scripts; belongs to one event loop. Connects when there is something to send."""

    def __init__(self, url: str) -> None:
        self._dial = dialer(url)
        self._wire: Wire | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._waiting: list[_Asked] = []
        self._sent: deque[_Asked] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def command(self, *args: Arg) -> Awaitable[Any]:
        """One plain command; raises StoreError and its kinds."""
        return self._put(_Asked(pack(args), asyncio.get_running_loop().create_future(), None))

    def script(self, script: Script, root: str, args: Sequence[Arg]) -> Awaitable[Any]:
        """One script by its SHA, loaded first where Redis does not know it."""
        packed = pack(("EVALSHA", script.sha, 1, root, *args))
        return self._put(_Asked(packed, asyncio.get_running_loop().create_future(), script))

    def _put(self, asked: _Asked) -> asyncio.Future[Any]:
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.append(asked)
        return asked.future

    def _flush(self) -> None:
        if self._wire is None:
            self._connecting = self._connecting or asyncio.create_task(self._connect(), name="redis-connect")
            return
        if self._timer is None:
            self._watch()
        waiting, self._waiting = self._waiting, []
        self._sent.extend(waiting)
        self._wire.send(b"".join([asked.packed for asked in waiting]))

    async def _connect(self) -> None:
        try:
            self._wire = await Wire.open(self._dial, self._hear, self._lost)
        except (RedisError, OSError) as exc:
            waiting, self._waiting = self._waiting, []
            _fail(waiting, exc)
        finally:
            self._connecting = None
        if self._waiting:
            self._flush()

    def _hear(self, reply: Reply) -> None:
        asked = self._sent.popleft()
        if isinstance(reply, hiredis.ReplyError):
            self._refused(asked, reply)
        elif not asked.future.done():
            asked.future.set_result(reply)

    def _refused(self, asked: _Asked, reply: hiredis.ReplyError) -> None:
        script = asked.script
        if script is None or asked.loaded or not str(reply).startswith("NOSCRIPT"):
            _fail([asked], reply)
            return
        asked.loaded = True
        load = pack(("SCRIPT", "LOAD", script.text))
        if all(load != other.packed for other in self._waiting):
            self._put(_Asked(load, asyncio.get_running_loop().create_future(), None)).add_done_callback(_forget)
        self._put(asked)

    def _lost(self) -> None:
        self._wire = None
        sent, self._sent = self._sent, deque()
        again = [asked for asked in sent if not asked.sent_again and not asked.future.done()]
        _fail([asked for asked in sent if asked.sent_again], RedisConnectionError("the connection broke twice"))
        for asked in again:
            asked.sent_again = True
        self._waiting[:0] = again
        if self._waiting:
            self._flush()

    def _watch(self) -> None:
        """Looks again in a while; only the oldest command can be overdue."""
        oldest = self._sent[0] if self._sent else None
        self._timer = asyncio.get_running_loop().call_later(CHECK_S, self._check, oldest)

    def _check(self, oldest: _Asked | None) -> None:
        self._timer = None
        if oldest is not None and self._sent and self._sent[0] is oldest and self._wire is not None:
            sent, self._sent = self._sent, deque()
            _fail(sent, RedisTimeoutError("no reply"))
            self._wire.cut()
        elif self._sent:
            self._watch()

    async def close(self) -> None:
        """Waits for what is under way, then closes the connection."""
        under_way = [asked.future for asked in (*self._waiting, *self._sent)]
        await asyncio.gather(*under_way, return_exceptions=True)
        if self._connecting is not None:
            await self._connecting
        if self._timer is not None:
            self._timer.cancel()
        if self._wire is not None:
            await self._wire.close()


def _fail(asked: Iterable[_Asked], exc: Exception) -> None:
    for one in asked:
        if not one.future.done():
            error = translate(exc)
            error.__cause__ = exc
            one.future.set_exception(error)


def _forget(future: asyncio.Future[Any]) -> None:
    """A script that could not be loaded is told by the command that needs it."""
    if not future.cancelled():
        future.exception()
