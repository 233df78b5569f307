"""Where the time of one call goes, as its worker sees it; the scripts add it to the job's phases."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Literal

Stage = Literal["worker", "connect", "provider_ttft", "generation", "stalls"]
STAGES: Final[tuple[Stage, ...]] = ("worker", "connect", "provider_ttft", "generation", "stalls")
"""In the order of CALL in lua/_phases.lua."""
STALL_S: Final = 1.0
"""A longer gap between two pieces of the answer is a stall."""


class Stopwatch:
    """Runs from its making to `stop`. `lag_s` is the loop's pauses so far: their time is nobody's but our worker's."""

    def __init__(self, lag_s: Callable[[], float], now_s: Callable[[], float] = time.monotonic) -> None:
        self._lag_s, self._now_s = lag_s, now_s
        self._took: dict[Stage, float] = dict.fromkeys(STAGES, 0.0)
        self._stage: Stage = "connect"
        self._at, self._lag = now_s(), lag_s()
        self._running = True

    def sent(self) -> None:
        """The provider has the whole request."""
        if self._stage == "connect":
            self._turn("connect", "provider_ttft")

    def heard(self) -> None:
        """A piece of the answer came."""
        if self._stage == "generation":
            self._turn("generation", "generation")
        else:
            self._turn("provider_ttft", "generation")

    def stop(self) -> None:
        """Nothing more comes from the provider; a second time changes nothing."""
        if self._running:
            self._turn(self._stage, self._stage)
        self._running = False

    def packed(self) -> str:
        """Milliseconds of each stage, as the scripts take them."""
        return " ".join(str(round(self._took[stage] * 1000)) for stage in STAGES)

    def _turn(self, over: Stage, following: Stage) -> None:
        """The time since the last turn was the stage `over`'s, but for the loop's own pauses."""
        now, lag = self._now_s(), self._lag_s()
        passed = max(0.0, now - self._at)
        paused = min(passed, max(0.0, lag - self._lag))
        self._took["worker"] += paused
        rest = passed - paused
        self._took["stalls" if over == "generation" and rest > STALL_S else over] += rest
        self._at, self._lag, self._stage = now, lag, following
