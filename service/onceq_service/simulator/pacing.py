"""Let tokens out at the speed that was asked for, cheaply: what is due at the same moment leaves together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable

from onceq_service.simulator.frames import Frame

TICK_S = 0.004
"""Shortest sleep. A faster stream sends several tokens at once rather than waking the loop for each."""

GULP = 64
"""Tokens per send when there is no speed limit; the loop serves the other streams in between."""


class Pacer:
    """The time table of one answer. Token n (from 1) is due at `first + (n - 1) / tps`."""

    def __init__(self, ttft_s: float, tps: float, slow_s: float = 0) -> None:
        self.opening = time.monotonic() + ttft_s
        self.first = self.opening + slow_s
        self.tps = tps

    async def open(self) -> int:
        """Wait for the opening events; returns the number of tokens that may go with them."""
        await asyncio.sleep(max(0.0, self.opening - time.monotonic()))
        return self._due()

    async def until(self, token: int) -> int:
        """Wait until this token may go; returns how many may, which is at least as many."""
        due_at = self.first + ((token - 1) / self.tps if self.tps else 0)
        wait = due_at - time.monotonic()
        await asyncio.sleep(max(wait, TICK_S) if self.tps or wait > 0 else 0)
        return max(token, self._due()) if self.tps else token + GULP - 1

    def _due(self) -> int:
        elapsed = time.monotonic() - self.first
        if elapsed < 0:
            return 0
        return int(elapsed * self.tps) + 1 if self.tps else GULP


async def paced(frames: Iterable[Frame], pacer: Pacer) -> AsyncIterator[list[Frame]]:
    """The frames in batches, each when it is due; frames without tokens go with what is before them."""
    allowed = await pacer.open()
    batch: list[Frame] = []
    tokens = 0
    for frame in frames:
        tokens += frame.tokens
        if tokens > allowed:
            if batch:
                yield batch
            batch = []
            allowed = await pacer.until(tokens)
        batch.append(frame)
    if batch:
        yield batch
