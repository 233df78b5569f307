"""What providers say of their rate limits: through their SDKs, and header by header."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onceq_service.providers import Provider
from onceq_service.providers._limits import rate_limits
from onceq_service.providers.base import LONGEST_WAIT_S, CallSpec, RateLimits
from onceq_service.settings import ProviderKind
from tests.service.providers.kit import Heard, hear, sim, spec_for

OPENAI = {"x-ratelimit-limit-requests": "60", "x-ratelimit-limit-tokens": "150000"}
ANTHROPIC = {
    "anthropic-ratelimit-requests-limit": "50",
    "anthropic-ratelimit-input-tokens-limit": "30000",
    "anthropic-ratelimit-output-tokens-limit": "8000",
    "date": "Tue, 24 Nov 2026 10:00:30 GMT",
}


async def told(provider: Provider, spec: CallSpec) -> RateLimits | None:
    async with provider.call(spec) as stream:
        limits = stream.rate_limits
        async for _ in stream:
            pass
    return limits


async def test_limits_are_known_when_the_answer_begins(provider: Provider, kind: ProviderKind) -> None:
    spec = replace(spec_for(kind, sim(rpm=700, tpm=90_000)), model_id="limited-1")
    expected = {"openai": RateLimits(700, 90_000, 0), "anthropic": RateLimits(700, 90_000, 90_000), "bedrock": None}
    assert await told(provider, spec) == expected[kind]


async def test_a_host_that_tells_of_no_limit_has_none(provider: Provider, kind: ProviderKind) -> None:
    assert await told(provider, spec_for(kind, sim(tokens=2))) is None


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
async def test_the_last_request_of_a_minute_says_how_long_to_wait(provider: Provider, kind: ProviderKind) -> None:
    spec = replace(spec_for(kind, sim(rpm=1)), model_id=f"last-of-{kind}")
    limits = await told(provider, spec)
    assert limits is not None
    assert 0 < limits.wait_s <= 61


async def test_a_background_response_tells_too(provider: Provider, kind: ProviderKind) -> None:
    if not provider.can_resume:
        return
    spec = replace(spec_for(kind, sim(rpm=700)), model_id="limited-2", background=True)
    assert await told(provider, spec) == RateLimits(700, 0, 0)
    heard: Heard = await hear(provider, spec)
    assert heard.error is None


@pytest.mark.parametrize(
    ("reset", "wait_s"),
    [("6ms", 0.006), ("1s", 1.0), ("2m59.56s", 179.56), ("1h0m0s", 3600.0), ("1d2h", LONGEST_WAIT_S), ("soon", 0.0)],
)
def test_openais_resets_are_durations(reset: str, wait_s: float) -> None:
    headers = OPENAI | {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": reset}
    limits = rate_limits(headers)
    assert limits is not None
    assert limits.wait_s == pytest.approx(wait_s)
    assert limits.packed() == "60,150000,0,0"


@pytest.mark.parametrize(
    ("reset", "wait_s"),
    [("2026-11-24T10:00:42Z", 12.0), ("2026-11-24T11:00:35+01:00", 5.0), ("2026-11-24T10:00:00Z", 0.0), ("?", 0.0)],
)
def test_anthropics_resets_are_times_by_its_own_clock(reset: str, wait_s: float) -> None:
    used_up = {"anthropic-ratelimit-output-tokens-remaining": "0", "anthropic-ratelimit-output-tokens-reset": reset}
    assert rate_limits(ANTHROPIC | used_up) == RateLimits(50, 30_000, 8_000, wait_s=wait_s)


def test_the_longest_wait_counts_and_what_remains_needs_none() -> None:
    left = {"x-ratelimit-remaining-requests": "13", "x-ratelimit-reset-requests": "50s"}
    none = {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "20s"}
    limits = rate_limits(OPENAI | left | none)
    assert limits is not None
    assert (limits.wait_s, limits.requests_used) == (20, 47)


@pytest.mark.parametrize("remaining", ["-1", "", "many", "1"])
def test_a_remainder_that_can_not_be_read_holds_nothing_back(remaining: str) -> None:
    """Some hosts write -1 for what they do not know."""
    headers = OPENAI | {"x-ratelimit-remaining-requests": remaining, "x-ratelimit-reset-requests": "9s"}
    assert rate_limits(headers) == RateLimits(60, 150_000, 0)


def test_limits_that_can_not_be_read_are_none() -> None:
    for value in ("", "0", "-5", "1e9", "unlimited", "9" * 40):
        assert rate_limits({"x-ratelimit-limit-requests": value}) is None
    assert rate_limits({}) is None
