"""What to do after a call that did not end well; pure (R11, R12, W3, W4, G3, G4).

This is the only retry authority: provider SDKs have theirs turned off.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from onceq_service.providers.base import ProviderError

BASE_S = 2.0
"""First backoff; it doubles with each try, and full jitter picks a moment in it."""
CAP_S = 60.0
BRAKED = frozenset({"provider_rate_limited", "provider_overloaded"})
"""These say something about the lane, not about the job: the whole lane waits."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What the job has left: tries and calls made so far, their limits, seconds to the deadline, and its wish."""

    tries: int
    max_tries: int
    calls: int
    max_calls: int
    remaining_s: float
    on_break: str = "retry"


@dataclass(frozen=True, slots=True)
class Retry:
    """Queue the job again after `delay_s`; hold the lane back for `brake_s`."""

    delay_s: float
    brake_s: float = 0.0


@dataclass(frozen=True, slots=True)
class GiveUp:
    """End the job as failed. `retryable`: a replay by hand could help."""

    retryable: bool


def decide(error: ProviderError, budget: Budget, rng: random.Random) -> Retry | GiveUp:
    """Whether, and when, to try again."""
    if error.cause == "rejected":
        return GiveUp(retryable=False)
    if budget.tries >= budget.max_tries:
        return GiveUp(retryable=True)
    if error.cause == "broken" and budget.on_break == "fail":
        return GiveUp(retryable=True)
    if error.cause != "refused" and budget.calls >= budget.max_calls:
        return GiveUp(retryable=True)
    delay = _delay(error, budget.tries, rng)
    if delay >= budget.remaining_s:
        return GiveUp(retryable=True)
    brake = delay if error.code in BRAKED and error.retry_after_s is not None else 0.0
    return Retry(delay, brake)


def _delay(error: ProviderError, tries: int, rng: random.Random) -> float:
    """Full jitter over the backoff, but never before the provider's Retry-After (plus a little, against a herd)."""
    backoff = rng.uniform(0, min(CAP_S, BASE_S * 2 ** max(0, tries - 1)))
    if error.retry_after_s is None:
        return backoff
    return error.retry_after_s + rng.uniform(0, min(1.0, 0.1 * error.retry_after_s + 0.05))
