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
        self._made_at = self._at = now_s()
        self._lag = lag_s()
        self._received_at, self._received_lag = self._at, self._lag
        self._running = True

    def age_s(self) -> float:
        """Seconds since its making, whether it still runs or not."""
        return self._now_s() - self._made_at

    def sent(self) -> None:
        """The provider has the whole request."""
        if self._stage == "connect":
            self._turn("connect", "provider_ttft")

    def received(self) -> None:
        """A piece of the answer came. Asked for each token: those that come in time are counted later, all at once."""
        if self._stage != "generation":
            self._turn("provider_ttft", "generation")
            return
        now, lag = self._now_s(), self._lag_s()
        if now - self._received_at > STALL_S:
            self._turn("generation", "generation")
        else:
            self._received_at, self._received_lag = now, lag

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
        if over == "generation":
            self._count(over, self._received_at, self._received_lag)
        now, lag = self._now_s(), self._lag_s()
        rest = self._rest(now, lag)
        self._count("stalls" if over == "generation" and rest > STALL_S else over, now, lag)
        self._stage, self._received_at, self._received_lag = following, now, lag

    def _rest(self, now: float, lag: float) -> float:
        """What has passed since the last count without the loop's pauses."""
        passed = max(0.0, now - self._at)
        return passed - min(passed, max(0.0, lag - self._lag))

    def _count(self, over: Stage, now: float, lag: float) -> None:
        rest = self._rest(now, lag)
        self._took["worker"] += max(0.0, now - self._at) - rest
        self._took[over] += rest
        self._at, self._lag = now, lag
