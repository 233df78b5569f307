"""How long this worker's event loop did not turn: time in which a call could not be looked at, whoever answers it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

TICK_S = 0.1
"""How often the loop says that it turns; a pause is measured from the first tick that it missed."""
USUAL_S = 0.05
"""Being later than that is a pause."""


class Lag:
    """Of one event loop; start() in it, stop() before it ends. Nothing is counted while it is not started."""

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None
        self._time: Callable[[], float] = lambda: 0.0
        self._sum, self._due = 0.0, math.inf

    def start(self) -> None:
        """Begins to count."""
        self._plan(asyncio.get_running_loop())

    def stop(self) -> None:
        """Ends the counting."""
        if self._timer is not None:
            self._timer.cancel()
            self._due = math.inf

    def total_s(self) -> float:
        """Seconds of pauses since the start, the one that is just over included."""
        by = self._time() - self._due
        return self._sum + by if by > USUAL_S else self._sum

    def _plan(self, loop: asyncio.AbstractEventLoop) -> None:
        self._time, self._due = loop.time, loop.time() + TICK_S
        self._timer = loop.call_at(self._due, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._sum = self.total_s()
        self._plan(loop)
