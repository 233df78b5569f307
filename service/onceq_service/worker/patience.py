"""Store calls that must come through: tried again while Redis is away, because the work is paid for already."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from onceq_service.store import StoreFull, StoreUnavailable

log = logging.getLogger("onceq.worker")
T = TypeVar("T")

FIRST_S, LONGEST_S = 0.05, 1.0


async def until_stored(what: str, do: Callable[[], Awaitable[T]]) -> T:
    """Calls `do` until Redis answers; other errors of the store (a lost lease) pass through."""
    pause = FIRST_S
    while True:
        try:
            return await do()
        except (StoreUnavailable, StoreFull) as exc:
            log.warning("%s waits for Redis: %s", what, exc)
            await asyncio.sleep(pause)
            pause = min(LONGEST_S, pause * 2)
