"""How the showroom's providers behave: how fast, how well, and what comes of a try while something goes wrong. Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from onceq_service.providers.base import Cause, ProviderError
from onceq_service.showroom.incidents import Incident

SPEED: Final[dict[str, tuple[float, float]]] = {
    "openai/gpt-4o-mini": (0.42, 95.0), "openai/gpt-4o": (0.65, 70.0), "openai/gpt-5": (2.4, 60.0),
    "anthropic/claude-haiku-4-5": (0.55, 110.0), "anthropic/claude-sonnet-4-5": (1.1, 62.0),
    "bedrock/amazon.nova-lite-v1:0": (0.38, 120.0), "bedrock/amazon.nova-pro-v1:0": (0.7, 75.0),
}  # fmt: skip
"""Seconds to the first token, and tokens a second, about."""
REASONS: Final = {"openai/gpt-5": 0.6}
"""Of a model's output, what it thinks to itself."""

REFUSALS: Final[dict[str, tuple[str, Cause, int | None]]] = {
    "provider_unreachable": ("The provider can't be reached: connection refused.", "refused", None),
    "provider_error": ("The provider failed (500): The server had an error.", "refused", 500),
    "provider_rate_limited": ("The provider's rate limit is reached (429).", "refused", 429),
    "content_refused": ("The provider's filter refused this content.", "rejected", 400),
    "provider_bad_request": ("The provider refused the request (400): not valid.", "rejected", 400),
}
BREAKS: Final[tuple[tuple[str, str, Cause], ...]] = (
    ("stream_broken", "The connection broke before the answer was whole. It may be billed.", "broken"),
    ("stream_ended_early", "The stream ended without its end marker. It may be billed.", "broken"),
    ("provider_timeout", "No byte came for too long. It may be billed.", "timeout"),
)
RARE: Final = (("content_refused", 0.0015), ("provider_error", 0.004), ("provider_bad_request", 0.0055))
"""What happens on any day, and up to which number of a dice from 0 to 1."""


@dataclass(frozen=True, slots=True)
class Course:
    """What becomes of a try. Times in ms; `share` of the answer that arrives; `error` None: all of it.

    `lost`: its worker dies in the middle.
    """

    connect_ms: int
    ttft_ms: int
    generation_ms: int
    stalls_ms: int = 0
    share: float = 1.0
    error: ProviderError | None = None
    lost: bool = False

    @property
    def took_ms(self) -> int:
        """From the call's record to its end."""
        return self.connect_ms + self.ttft_ms + self.generation_ms + self.stalls_ms

    @property
    def first_ms(self) -> int:
        """From the call's record to the first token."""
        return self.connect_ms + self.ttft_ms

    def until(self, passed_ms: int) -> Course:
        """The part of it up to so long after the call's record; its `share` is of what would have come."""
        ttft_ms = max(0, min(self.ttft_ms, passed_ms - self.connect_ms))
        generation_ms = max(0, min(self.generation_ms, passed_ms - self.first_ms))
        return Course(
            min(self.connect_ms, passed_ms), ttft_ms, generation_ms, 0, generation_ms / max(1, self.generation_ms)
        )

    @property
    def measured(self) -> str:
        """As a worker's stopwatch says it."""
        return f"1 {self.connect_ms} {self.ttft_ms} {self.generation_ms} {self.stalls_ms}"


def course(model: str, tokens: int, at_ms: int, told: Sequence[Incident], rng: random.Random) -> Course:
    """A try at this time, for an answer of so many tokens."""
    now = {i.what for i in told if i.holds(at_ms, model)}
    first_s, speed = SPEED[model]
    slow = rng.uniform(4, 9) if "slow" in now else 1.0
    connect_ms = rng.randrange(12, 60)
    ttft_ms = round(1000 * first_s * slow * rng.lognormvariate(0, 0.35))
    generation_ms = round(1000 * tokens / speed * min(slow, 3.0) * rng.lognormvariate(0, 0.2)) + 1
    stalls_ms = rng.randrange(1_500, 12_000) if rng.random() < (0.2 if "slow" in now else 0.004) else 0
    turned = _turned_away(now, rng)
    if turned is not None:
        return Course(connect_ms, rng.randrange(40, 400), 0, 0, 0.0, turned)
    whole = Course(connect_ms, ttft_ms, generation_ms, stalls_ms)
    if "crashes" in now and rng.random() < 0.35:
        return _part(whole, None, rng, lost=True)
    if rng.random() < (0.4 if "breaks" in now else 0.03 if "slow" in now else 0.0025):
        return _part(whole, _broken(rng), rng)
    return whole


def _turned_away(now: set[str], rng: random.Random) -> ProviderError | None:
    """An error in place of an answer; before any of it, so that nobody pays."""
    dice = rng.random()
    if "outage" in now and dice < 0.9:
        return _refused("provider_unreachable" if dice < 0.2 else "provider_error")
    if "throttled" in now and dice < 0.55:
        return _refused("provider_rate_limited", float(rng.randrange(3, 25)))
    return next((_refused(code) for code, below in RARE if dice < below), None)


def _refused(code: str, retry_after_s: float | None = None) -> ProviderError:
    message, cause, status = REFUSALS[code]
    return ProviderError(code, message, cause=cause, status=status, retry_after_s=retry_after_s)


def _broken(rng: random.Random) -> ProviderError:
    code, message, cause = rng.choice(BREAKS)
    return ProviderError(code, message, cause=cause)


def _part(whole: Course, error: ProviderError | None, rng: random.Random, *, lost: bool = False) -> Course:
    share = rng.uniform(0.15, 0.9)
    generation_ms = round(whole.generation_ms * share) + 1
    return Course(whole.connect_ms, whole.ttft_ms, generation_ms, whole.stalls_ms, share, error, lost)
