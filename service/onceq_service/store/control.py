"""The control channel: job ids whose workers must look at them now (a cancel)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from onceq_service.store._pipe import translate
from onceq_service.store.keys import Keys


async def cancelled_jobs(redis: Redis, keys: Keys) -> AsyncIterator[str]:
    """Ids as they are cancelled, from any process; raises StoreUnavailable when the connection is lost.

    A message may be missed while disconnected: heartbeats and appends carry the cancel flag too.
    """
    pubsub = redis.pubsub(ignore_subscribe_messages=True)  # pyright: ignore[reportUnknownMemberType] - untyped kwargs
    try:
        await pubsub.subscribe(keys("control"))
        while True:
            message = cast("dict[str, bytes] | None", await pubsub.get_message(timeout=1.0))
            if message is not None:
                yield message["data"].decode()
    except (RedisError, OSError) as exc:
        raise translate(exc) from exc
    finally:
        await pubsub.aclose()
