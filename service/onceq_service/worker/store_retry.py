"""Store calls that must come through: tried again while Redis is away, because the work is paid for already.

A worker that has to go can't wait for ever: what still waits when its time is over is left to the leases of the jobs.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import TypeVar

from onceq.errors import OnceqError
from onceq_service.store import StoreFull, StoreUnavailable
from onceq_service.worker import outage

T = TypeVar("T")

FIRST_S, LONGEST_S = 0.05, 1.0
LAST_S = 1.0
"""What a store call may take that begins only when the waiting is over: Redis may well be there."""


class StoreRetryExpired(OnceqError):  # noqa: N818 - the field's word
    """Redis was away for longer than this worker may stay: what becomes of the job is decided when its lease ends."""


class StoreRetry:
    """How long the jobs of one worker process wait for Redis: without an end, until the worker has to go."""

    def __init__(self) -> None:
        self._end = math.inf
        self._limits: set[asyncio.Timeout] = set()
        self.expired = 0
        """How many jobs were left to their leases."""

    def end_in(self, seconds: float) -> None:
        """From then on nothing waits for Redis any more."""
        self._end = asyncio.get_running_loop().time() + seconds
        for limit in self._limits:
            limit.reschedule(self._end)

    async def stored(self, job_id: str, do: Callable[[], Awaitable[T]]) -> T:
        """Calls `do` for a job until Redis answers; other errors of the store (a lost lease) pass through.

        Raises StoreRetryExpired.
        """
        limit = asyncio.timeout(None)
        try:
            async with limit:
                self._limit(limit)
                return await _until_it_answers(do)
        except TimeoutError:
            if not limit.expired():
                raise
            self.expired += 1
            raise StoreRetryExpired(
                f"job {job_id} is left to its lease: Redis is away, and its worker has to go"
            ) from None
        finally:
            self._limits.discard(limit)

    def _limit(self, limit: asyncio.Timeout) -> None:
        self._limits.add(limit)
        if self._end < math.inf:
            limit.reschedule(max(self._end, asyncio.get_running_loop().time() + LAST_S))


async def _until_it_answers(do: Callable[[], Awaitable[T]]) -> T:
    pause = FIRST_S
    while True:
        try:
            answer = await do()
        except (StoreUnavailable, StoreFull) as exc:
            outage.REDIS.away(exc)
            await asyncio.sleep(pause)
            pause = min(LONGEST_S, pause * 2)
        else:
            outage.REDIS.back()
            return answer
