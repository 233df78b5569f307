"""What is tried again, and when: one table over causes, budgets and providers (R11, R12)."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

import pytest

from onceq_service.providers import open_providers
from onceq_service.providers.base import LONGEST_WAIT_S, Cause, ProviderError
from onceq_service.settings import ProviderConfig, ProviderKind
from onceq_service.worker.retry import BASE_S, CAP_S, GiveUp, Retry, RetryState, decide, take_up_after_s
from tests.service.providers.kit import refusal, sim, spec_for
from tests.stack import Stack

FRESH = RetryState(tries=1, max_tries=20, calls=1, max_calls=3, remaining_s=3600)
AGAIN: Mapping[ProviderKind, Mapping[int, str]] = {
    kind: {429: "provider_rate_limited", 500: "provider_error", 503: "provider_overloaded"}
    for kind in ("openai", "anthropic", "bedrock")
}
NEVER = {400: "provider_bad_request", 401: "provider_auth", 403: "provider_forbidden", 413: "provider_too_large"}


def failed(cause: Cause, code: str = "provider_error", retry_after_s: float | None = None) -> ProviderError:
    return ProviderError(code, "it failed", cause=cause, retry_after_s=retry_after_s)


def rng(seed: int = 7) -> random.Random:
    return random.Random(seed)


@pytest.mark.parametrize("cause", ["refused", "broken", "timeout"])
def test_what_is_not_the_requests_fault_is_tried_again(cause: Cause) -> None:
    assert isinstance(decide(failed(cause), FRESH, rng()), Retry)


def test_what_is_the_requests_fault_is_never_tried_again() -> None:
    assert decide(failed("rejected"), FRESH, rng()) == GiveUp(retryable=False)


@pytest.mark.parametrize(
    ("cause", "spent", "again"),
    [
        ("refused", {"calls": 3}, True),
        ("broken", {"calls": 3}, False),
        ("timeout", {"calls": 3}, False),
        ("refused", {"tries": 20}, False),
        ("broken", {"on_break": "fail"}, False),
        ("timeout", {"on_break": "fail"}, True),
        ("refused", {"on_break": "fail"}, True),
        ("refused", {"remaining_s": 0.0}, False),
    ],
)
def test_a_budget_ends_the_tries_that_it_is_for(cause: Cause, spent: dict[str, object], again: bool) -> None:
    """A refusal is not a call, so max_calls does not end it; max_tries and the deadline do."""
    decision = decide(failed(cause), replace(FRESH, **spent), rng())  # pyright: ignore[reportArgumentType]
    assert isinstance(decision, Retry) if again else decision == GiveUp(retryable=True)


@pytest.mark.parametrize("tries", range(1, 12))
def test_the_backoff_doubles_up_to_its_cap_with_full_jitter(tries: int) -> None:
    ceiling = min(CAP_S, BASE_S * 2 ** (tries - 1))
    seeded = rng()
    delays = [delay_of(decide(failed("refused"), replace(FRESH, tries=tries), seeded)) for _ in range(400)]
    assert all(0 <= delay <= ceiling for delay in delays)
    assert min(delays) < 0.05 * ceiling, "jitter begins at nothing"
    assert max(delays) > 0.95 * ceiling, "and goes up to all of it"


def test_the_same_seed_gives_the_same_delays() -> None:
    first, second = ([decide(failed("refused"), FRESH, seeded) for _ in range(5)] for seeded in (rng(3), rng(3)))
    assert first == second


@pytest.mark.parametrize("asked_s", [0.0, 0.5, 5.0, 90.0])
def test_a_retry_never_comes_before_retry_after_and_not_in_a_herd(asked_s: float) -> None:
    seeded = rng()
    error = failed("refused", "provider_rate_limited", asked_s)
    delays = [delay_of(decide(error, FRESH, seeded)) for _ in range(100)]
    assert all(asked_s <= delay <= asked_s + 1.0 for delay in delays)
    assert len(set(delays)) > 90


@pytest.mark.parametrize(
    ("code", "asked_s", "braked"),
    [
        ("provider_rate_limited", 5.0, True),
        ("provider_overloaded", 5.0, True),
        ("provider_rate_limited", None, False),
        ("provider_error", 5.0, False),
    ],
)
def test_only_a_limit_with_a_time_holds_the_whole_lane_back(code: str, asked_s: float | None, braked: bool) -> None:
    decision = decide(failed("refused", code, asked_s), FRESH, rng())
    assert isinstance(decision, Retry)
    assert (decision.brake_s > 0) is braked


@pytest.mark.parametrize("asked_s", [7_200.0, 30 * 86_400.0, 1e308])
def test_a_lane_is_held_back_for_an_hour_at_most_and_the_job_as_long_as_it_was_told(asked_s: float) -> None:
    """A gateway may write milliseconds, or the end of a month's quota; the lane is everybody's."""
    error = failed("refused", "provider_rate_limited", asked_s)
    assert decide(error, FRESH, rng()) == GiveUp(retryable=True, brake_s=LONGEST_WAIT_S)
    again = decide(error, replace(FRESH, remaining_s=float("inf")), rng())
    assert isinstance(again, Retry)
    assert (again.brake_s, again.delay_s >= asked_s) == (LONGEST_WAIT_S, True)
    assert take_up_after_s(error, 1, rng()) == LONGEST_WAIT_S


def delay_of(decision: Retry | GiveUp) -> float:
    assert isinstance(decision, Retry)
    return decision.delay_s


async def error_for(stack: Stack, kind: ProviderKind, status: int) -> ProviderError:
    """What a provider's own SDK makes of a status, in our words."""
    paths = {"openai": "/openai/v1", "anthropic": "/anthropic", "bedrock": "/bedrock"}
    config = ProviderConfig(kind=kind, base_url=stack.simulator + paths[kind], simulated=True)
    provider = open_providers({kind: config}, {})[kind]
    try:
        return await refusal(provider, spec_for(kind, sim(fault=status, retry_after=3)))
    finally:
        await provider.close()


@pytest.mark.parametrize("kind", ["openai", "anthropic", "bedrock"])
async def test_429_and_5xx_are_tried_again_and_4xx_are_not_whatever_the_sdk(stack: Stack, kind: ProviderKind) -> None:
    for status, code in AGAIN[kind].items():
        error = await error_for(stack, kind, status)
        assert (status, error.code, type(decide(error, FRESH, rng()))) == (status, code, Retry)
        assert not error.may_be_billed
    for status, code in NEVER.items():
        error = await error_for(stack, kind, status)
        assert (status, error.code, decide(error, FRESH, rng())) == (status, code, GiveUp(retryable=False))
