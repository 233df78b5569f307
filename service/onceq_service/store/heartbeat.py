"""Heartbeats on a connection of their own, for a thread of their own: a busy event loop is not a dead worker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError
from redis.retry import Retry

from onceq_service.store import scripts
from onceq_service.store._pipe import translate
from onceq_service.store.keys import Keys


class HeartbeatClient:
    """Renews leases, synchronously."""

    def __init__(self, url: str, queue: str, lease_ms: int) -> None:
        self._redis = Redis.from_url(  # pyright: ignore[reportUnknownMemberType] - redis-py: untyped kwargs
            url, socket_timeout=2.0, socket_connect_timeout=2.0, retry=Retry(NoBackoff(), 0), protocol=2
        )
        self._root, self._lease_ms = Keys(queue).root, lease_ms

    def beat(self, worker: str, info: bytes, held: Sequence[tuple[str, str]]) -> list[str]:
        """Renews the leases of (job id, fence) pairs: 'ok', 'cancel' or 'lost' for each; raises StoreUnavailable."""
        argv = [worker, info, self._lease_ms, *(x for pair in held for x in pair)]
        try:
            return [word.decode() for word in self._beat(argv)]
        except (RedisError, OSError) as exc:
            self._redis.connection_pool.disconnect()  # it may be a replica now that closes nobody
            raise translate(exc) from exc

    def _beat(self, argv: Sequence[str | bytes | int]) -> list[bytes]:
        try:
            return cast("list[bytes]", self._redis.evalsha(scripts.BEAT.sha, 1, self._root, *argv))
        except NoScriptError:
            self._redis.script_load(scripts.BEAT.text)
            return cast("list[bytes]", self._redis.evalsha(scripts.BEAT.sha, 1, self._root, *argv))

    def close(self) -> None:
        """Closes the connection."""
        self._redis.close()
