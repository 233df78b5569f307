"""Steps in the order of time. What needs no answer is sent along with the next step that does, in one pipeline.

So a job of the showroom costs two round trips, and its scripts still run one after the other as they would have.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Final, Literal

from onceq_service.store.backfill import BackfillStore

Doing = Coroutine[object, object, object] | None
"""Sends one script at its beginning; a function that it returns is called when its answer, and those to all before
it, are there. None where there is nothing left to do."""
Step = Callable[[int], Doing]
"""Does something at a time (ms)."""
Kind = Literal["sent", "answered"]
"""Whether the steps behind it may run before its answer, and those to all before it, are known."""

MOST: Final = 64
"""Scripts of one round, few enough for one pipeline."""


class Timeline:
    """Runs steps at the times for which they are planned."""

    def __init__(self, store: BackfillStore) -> None:
        self._store = store
        self._heap: list[tuple[int, int, Kind, Step]] = []
        self._order = count()
        self._sent: list[asyncio.Task[object]] = []

    def plan(self, at_ms: int, step: Step, kind: Kind = "sent") -> None:
        """Has a step run then; of two at one time the one that was planned first."""
        heapq.heappush(self._heap, (at_ms, next(self._order), kind, step))

    async def run(self) -> None:
        """Until nothing is planned any more."""
        now_ms = 0
        while self._heap:
            at_ms, _, kind, step = heapq.heappop(self._heap)
            now_ms = max(now_ms, at_ms)
            doing = step(now_ms)
            if doing is not None:
                self._sent.append(asyncio.create_task(self._at(now_ms, doing)))
            if kind == "answered" or len(self._sent) >= MOST or not self._heap:  # answers may plan further steps
                await self._settle()

    async def _at(self, now_ms: int, doing: Coroutine[object, object, object]) -> object:
        self._store.set_time(now_ms)  # read as the script is sent, before any other step runs
        return await doing

    async def _settle(self) -> None:
        sent, self._sent = self._sent, []
        for then in await asyncio.gather(*sent):
            if callable(then):
                then()
