"""The control channel: job ids whose workers must look at them now (a cancel)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from redis.asyncio import Redis

from onceq_service.store._pipe import Pipe
from onceq_service.store._subscription import Subscription
from onceq_service.store.keys import Keys


@asynccontextmanager
async def cancels(redis: Redis, pipe: Pipe, keys: Keys, heard: Callable[[str], None]) -> AsyncGenerator[None]:
    """Inside `with`, `heard` is told each id as it is cancelled, from any process.

    A message may be missed while Redis is away: heartbeats and appends carry the cancel flag too.
    """
    subscription = Subscription(redis, lambda data: heard(data.decode()), lambda _channel: None)
    subscription.start()
    subscription.join(keys("control"))
    pipe.moved.add(subscription.renew)
    try:
        yield
    finally:
        pipe.moved.discard(subscription.renew)
        await subscription.stop()
