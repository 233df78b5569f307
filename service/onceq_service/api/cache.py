"""What is worth keeping for a moment, by tenant or lane; callers that come meanwhile share one making of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from math import inf
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class TtlCache(Generic[T]):
    """Values by name, for `keep_s` seconds."""

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s
        self._made: dict[str, tuple[float, asyncio.Task[T]]] = {}
        self._renewed: dict[str, asyncio.Task[T]] = {}

    def known(self, name: str, make: Callable[[], Coroutine[Any, Any, T]]) -> T | None:
        """The same without waiting: what there is, None where it is more than twice as old as it should be.

        What is older than it should be is made anew meanwhile.
        """
        now, (made_at, task) = time.monotonic(), self._made.get(name, (-inf, None))
        if task is None or now - made_at > 2 * self._keep_s:
            return None
        if now - made_at > self._keep_s and name not in self._renewed:
            self._renewed[name] = renewal = asyncio.create_task(make(), name=f"make-{name}")
            renewal.add_done_callback(lambda _: self._renew(name, now))
        return task.result() if task.done() and not _failed(task) else None

    def _renew(self, name: str, begun: float) -> None:
        self._made[name] = (begun, self._renewed.pop(name))

    async def get(self, name: str, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What was made for the name not long ago, else what `make` gives now; raises what that raises, unkept."""
        now, known = time.monotonic(), self._made.get(name)
        if known is not None and now - known[0] <= self._keep_s and known[1].done() and not _failed(known[1]):
            return known[1].result()  # as most callers find it: no waiting, no future
        self._made = {n: m for n, m in self._made.items() if now - m[0] <= self._keep_s and not _failed(m[1])}
        if name not in self._made:
            self._made[name] = (now, asyncio.create_task(make(), name=f"make-{name}"))
        return await asyncio.shield(self._made[name][1])


def _failed(task: asyncio.Task[Any]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
