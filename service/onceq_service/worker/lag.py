"""How long this worker's event loop did not turn: time in which a call could not be looked at, whoever answers it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

TICK_S = 0.1
"""How often the loop says that it turns; a pause is measured from the first tick that it missed."""
USUAL_S = 0.05
"""Being later than that is a pause."""


class Lag:
    """Of one event loop; start() in it, stop() before it ends. Nothing is counted while it is not started."""

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None
        self._sum = 0.0
        self._late: Callable[[], float] = lambda: 0.0

    def start(self) -> None:
        """Begins to count."""
        self._plan(asyncio.get_running_loop())

    def stop(self) -> None:
        """Ends the counting."""
        if self._timer is not None:
            self._timer.cancel()
            self._late = lambda: 0.0

    def total_s(self) -> float:
        """Seconds of pauses since the start, the one that is just over included."""
        return self._sum + self._late()

    def _plan(self, loop: asyncio.AbstractEventLoop) -> None:
        due = loop.time() + TICK_S

        def late() -> float:
            by = loop.time() - due
            return by if by > USUAL_S else 0.0

        self._late = late
        self._timer = loop.call_at(due, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._sum += self._late()
        self._plan(loop)
