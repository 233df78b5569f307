"""What to do after a call that did not end well; pure (R11, R12, W3, W4, G3, G4).

This is the only retry authority: provider SDKs have theirs turned off.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from onceq_service.providers.base import LONGEST_WAIT_S, ProviderError
from onceq_service.store.engine import Fallback

BASE_S = 2.0
"""First backoff; it doubles with each try, and full jitter picks a moment in it."""
CAP_S = 60.0
ANOTHER_MAY = frozenset({
    "provider_auth", "provider_forbidden", "model_not_found", "provider_too_large", "unsupported_input",
})  # fmt: skip
"""Rejections that speak of the model or of our account with it, so that the next model of the job may do better. A bad
request and refused content are the job's own: they never go to another provider."""
BRAKED = frozenset({"provider_rate_limited", "provider_overloaded"})
"""These say something about the lane, not about the job: the whole lane waits."""


@dataclass(frozen=True, slots=True)
class RetryState:
    """Tries and calls that the job has made so far, their limits, seconds to the deadline, and what it asked for."""

    tries: int
    max_tries: int
    calls: int
    max_calls: int
    remaining_s: float
    on_break: str = "retry"
    others: int = 0
    """Models that may answer instead of this one."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Queue the job again after `delay_s`, with another of its models if so; hold the lane back for `brake_s`."""

    delay_s: float
    brake_s: float = 0.0
    fallback: Fallback = ""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """End the job as failed, and hold the lane back for `brake_s`. `retryable`: a replay by hand could help."""

    retryable: bool
    brake_s: float = 0.0


def decide(error: ProviderError, state: RetryState, rng: random.Random) -> Retry | GiveUp:
    """Whether, and when, to try again; what an error says of the lane holds it back either way."""
    rejected = error.cause == "rejected"
    if rejected and not (state.others and error.code in ANOTHER_MAY):
        return GiveUp(retryable=error.code == "resume_refused")
    delay = _delay(error, state.tries, rng)
    brake = min(LONGEST_WAIT_S, delay) if error.code in BRAKED and error.retry_after_s is not None else 0.0
    if _used_up(error, state):
        return GiveUp(retryable=True, brake_s=brake)
    again = Retry(delay, brake)
    if state.others:
        again = Retry(0.0 if state.tries <= state.others else delay, brake, "drop" if rejected else "next")
    return GiveUp(retryable=True, brake_s=brake) if again.delay_s >= state.remaining_s else again


def _used_up(error: ProviderError, state: RetryState) -> bool:
    if state.tries >= state.max_tries or (error.cause == "broken" and state.on_break == "fail"):
        return True
    return error.cause not in ("refused", "rejected") and state.calls >= state.max_calls


def take_up_after_s(error: ProviderError, takeovers: int, rng: random.Random) -> float:
    """When to go on with a background response: at once the first time, since its text is being written meanwhile."""
    return min(LONGEST_WAIT_S, _delay(error, takeovers, rng)) if takeovers else 0.0


def _delay(error: ProviderError, tries: int, rng: random.Random) -> float:
    """Full jitter over the backoff, but never before the provider's Retry-After (plus a little, against a herd)."""
    backoff = rng.uniform(0, min(CAP_S, BASE_S * 2 ** max(0, tries - 1)))
    if error.retry_after_s is None:
        return backoff
    return error.retry_after_s + rng.uniform(0, min(1.0, 0.1 * error.retry_after_s + 0.05))
