"""The one way to Redis for commands: all calls of one turn of the event loop leave as one pipeline.

Measured (FINDINGS.md): a redis-py command costs 73-78 us of CPU, pipelined by 16 it costs 26; so concurrent posts and
the appends of many jobs share round trips without knowing of each other. Nothing is retried here beyond a stale
connection: every script is idempotent, and its caller knows whether to try again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, cast

import hiredis
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection, BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, OutOfMemoryError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from onceq_service.store._lua import Script
from onceq_service.store.errors import StoreError, StoreFull, StoreUnavailable

Arg = str | bytes | int | float
Packed = bytes | str | Iterable[bytes]

MAX_BATCH = 128
"""Commands of one pipeline: few enough that one turn's batch does not hold up the next."""
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


def connect(
    url: str,
    *,
    connections: int,
    timeout_s: float = 5.0,
    retries: int = 1,
    kind: type[AbstractConnection] | None = None,
) -> Redis:
    """A redis-py client with bounded connections, explicit timeouts, and at most `retries` quick retries.

    `kind` of connection: by default the one that fits the URL.
    """
    pool = BlockingConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType] - redis-py: untyped kwargs
        url,
        max_connections=connections,
        timeout=timeout_s,
        socket_timeout=timeout_s,
        socket_connect_timeout=min(2.0, timeout_s),
        retry=Retry(ConstantBackoff(0.02), retries),
        protocol=2,
    )
    pool.connection_class = _packed_by_hiredis(kind or pool.connection_class)
    client = Redis.from_pool(pool)
    client.response_callbacks.clear()  # replies as Redis sends them, in every command
    return client


def _packed_by_hiredis(kind: type[AbstractConnection]) -> type[AbstractConnection]:
    """The connection with its pipelines written in C: redis-py's asyncio side packs in Python, 25 us an admission.

    uvloop says RuntimeError when a transport was closed under a command; that is Redis being away, as any other cut.
    """

    pack = cast(
        "Callable[[tuple[Arg, ...]], bytes]",
        hiredis.pack_command,  # pyright: ignore[reportUnknownMemberType] - its stub does not say what it returns
    )

    def pack_commands(_: AbstractConnection, commands: Iterable[Iterable[Arg]]) -> list[bytes]:
        return [b"".join(pack(tuple(command)) for command in commands)]

    async def send(self: AbstractConnection, command: Packed, check_health: bool = True) -> None:
        try:
            await kind.send_packed_command(self, command, check_health)
        except RuntimeError as exc:
            raise RedisConnectionError("the connection was closed under a command") from exc

    own = {"pack_commands": pack_commands, "send_packed_command": send}
    return type(f"Packed{kind.__name__}", (kind,), own)


def translate(exc: BaseException) -> StoreError:
    """Redis's errors in our words; the one door for them."""
    if isinstance(exc, OutOfMemoryError):
        return StoreFull("Redis is at its memory limit; nothing was stored. Free memory or raise maxmemory.")
    if isinstance(exc, _AWAY) or (isinstance(exc, ResponseError) and str(exc).startswith(_AWAY_WORDS)):
        return StoreUnavailable(f"Redis can't be reached ({type(exc).__name__}); try again shortly.")
    return StoreError(f"Redis refused a command: {exc}")


class Pipe:
    """Sends commands and scripts; concurrent calls share a pipeline."""

    def __init__(self, client: Redis) -> None:
        self.client = client
        self._waiting: list[tuple[tuple[Any, ...], asyncio.Future[Any], Script | None]] = []
        self._flushes: set[asyncio.Task[None]] = set()

    def command(self, *args: Arg) -> Awaitable[Any]:
        """One plain command; raises StoreError and its kinds."""
        return self._put(args, None)

    def script(self, script: Script, root: str, args: Sequence[Arg]) -> Awaitable[Any]:
        """One script by its SHA, loaded first where Redis does not know it."""
        return self._put(("EVALSHA", script.sha, 1, root, *args), script)

    def _put(self, args: tuple[Any, ...], script: Script | None) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._flush)
        self._waiting.append((args, future, script))
        return future

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), MAX_BATCH):
            task = asyncio.get_running_loop().create_task(self._send(waiting[start : start + MAX_BATCH]))
            self._flushes.add(task)
            task.add_done_callback(self._flushes.discard)

    async def _send(self, batch: list[tuple[tuple[Any, ...], asyncio.Future[Any], Script | None]]) -> None:
        try:
            replies = await self._exchange([args for args, _, _ in batch])
            unknown = [n for n, r in enumerate(replies) if isinstance(r, NoScriptError)]
            if unknown:
                await self._load({s for n in unknown if (s := batch[n][2])})
                for n, reply in zip(unknown, await self._exchange([batch[n][0] for n in unknown]), strict=True):
                    replies[n] = reply
        except BaseException as exc:  # noqa: BLE001 - every waiter must hear of it, whatever it is
            replies = [exc] * len(batch)
        for (_, future, _), reply in zip(batch, replies, strict=True):
            settle(future, reply)

    async def _exchange(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        async with self.client.pipeline(transaction=False) as pipe:
            for args in commands:
                pipe.execute_command(*args)  # pyright: ignore[reportUnknownMemberType] - redis-py: untyped args
            return await pipe.execute(raise_on_error=False)

    async def _load(self, scripts: set[Script]) -> None:
        for script in scripts:
            await self.client.script_load(script.text)

    async def close(self) -> None:
        """Waits for what is under way, then closes the connections."""
        await asyncio.gather(*self._flushes, return_exceptions=True)
        await self.client.aclose()


def settle(future: asyncio.Future[Any], reply: object) -> None:
    """Gives a waiter its reply, or the error that it is, in our words."""
    if future.done():
        return
    if isinstance(reply, asyncio.CancelledError):
        future.cancel()
    elif isinstance(reply, (RedisError, *_AWAY)):
        error = translate(reply)
        error.__cause__ = reply
        future.set_exception(error)
    elif isinstance(reply, BaseException):
        future.set_exception(reply)
    else:
        future.set_result(reply)
