"""Tells all workers what a provider's answer says of its rate limits, beside the stream that the answer is."""

from __future__ import annotations

import asyncio

from onceq_service.providers.base import RateLimits
from onceq_service.store import StoreError
from onceq_service.store.lanes import Lanes
from onceq_service.worker import outage

REFRESH_S = 600.0
"""What has not changed is told again so often, so that it does not lapse."""


class RateLimitReporter:
    """What one worker process has told of each lane; belongs to one event loop."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self._told: dict[str, tuple[RateLimits, float]] = {}
        self._telling: set[asyncio.Task[None]] = set()

    def note(self, lane: str, limits: RateLimits | None) -> None:
        """Takes in the headers of one answer; never waits."""
        now = asyncio.get_running_loop().time()
        if limits is None or (limits.wait_s == 0 and self._knows(lane, limits, now)):
            return
        self._told[lane] = (limits, now)
        task = asyncio.create_task(self._tell(lane, limits), name=f"learn-{lane}")
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def close(self) -> None:
        """Waits for what is being told."""
        await asyncio.gather(*self._telling)

    def _knows(self, lane: str, limits: RateLimits, now: float) -> bool:
        told, at = self._told.get(lane, (None, 0.0))
        return told == limits and now - at < REFRESH_S

    async def _tell(self, lane: str, limits: RateLimits) -> None:
        try:
            await self._lanes.learn(lane, limits.packed(), used=limits.requests_used, brake_s=limits.wait_s)
        except StoreError as exc:
            self._told.pop(lane, None)  # the next answer tells it again
            outage.REDIS.away(exc)
