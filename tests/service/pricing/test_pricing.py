"""Usage to whole nano-USD."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onceq_service import pricing
from onceq_service.pricing.tables import to_nano


@dataclass(frozen=True)
class At:
    price_provider: str
    api_flavor: str
    price_url: str | None = None


OPENAI = At("openai", "chat", "https://api.openai.com/v1")
ANTHROPIC = At("anthropic", "default", "https://api.anthropic.com")
BEDROCK = At("aws", "default")


def chat_usage(prompt: int, completion: int, cached: int = 0, reasoning: int = 0) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


def priced(provider: At, model: str, usage: dict[str, Any], context: dict[str, str] | None = None) -> pricing.Priced:
    found = pricing.price(provider, model, usage, context=context)
    assert found is not None
    return found


def test_cached_input_is_part_of_the_input_and_cheaper() -> None:
    got = priced(OPENAI, "gpt-4o-mini", chat_usage(1000, 100, cached=400, reasoning=30))
    assert got.tokens == pricing.Tokens(input=1000, output=100, cached=400, reasoning=30)
    assert got.nano_usd == 600 * 150 + 400 * 75 + 100 * 600
    assert not got.estimated


def test_anthropics_input_is_counted_with_its_cache() -> None:
    usage = {
        "input_tokens": 14,
        "cache_creation_input_tokens": 10,
        "cache_read_input_tokens": 100,
        "output_tokens": 20,
    }
    got = priced(ANTHROPIC, "claude-haiku-4-5", usage)
    assert got.tokens == pricing.Tokens(input=124, output=20, cached=100, cache_write=10)
    assert got.nano_usd == 14 * 1000 + 10 * 1250 + 100 * 100 + 20 * 5000


@pytest.mark.parametrize(
    ("model", "input_per_mtok"),
    [
        ("amazon.nova-lite-v1:0", "0.06"),
        ("us.amazon.nova-lite-v1:0", "0.06"),
        ("anthropic.claude-haiku-4-5-20251001-v1:0", "1.1"),
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", "1.1"),
        ("global.anthropic.claude-haiku-4-5-20251001-v1:0", "1"),
        ("arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-lite-v1:0", "0.06"),
        ("meta.llama3-1-70b-instruct-v1:0", "0.72"),
    ],
)
def test_bedrocks_ids_are_found_with_their_prefixes_and_versions(model: str, input_per_mtok: str) -> None:
    assert pricing.unit_prices(BEDROCK, model).input == to_nano(Decimal(input_per_mtok))


def test_an_unknown_model_has_no_price_and_keeps_its_tokens() -> None:
    got = priced(OPENAI, "my-own-model", chat_usage(10, 5))
    assert got.nano_usd is None
    assert got.tokens == pricing.Tokens(input=10, output=5)
    assert pricing.unit_prices(OPENAI, "my-own-model").output is None
    assert pricing.estimate(OPENAI, "my-own-model", in_bytes=3, out_bytes=3).nano_usd is None


@pytest.mark.parametrize("usage", [None, {}, {"tokens": 5}, {"prompt_tokens": "many"}])
def test_usage_that_can_not_be_read_asks_for_an_estimate(usage: dict[str, Any] | None) -> None:
    assert pricing.price(OPENAI, "gpt-4o-mini", usage) is None


def test_a_service_tier_has_its_own_price() -> None:
    usage = chat_usage(1_000_000, 0)
    plain, flex = priced(OPENAI, "gpt-5", usage), priced(OPENAI, "gpt-5", usage, {"service_tier": "flex"})
    assert plain.nano_usd == 2 * (flex.nano_usd or 0) != 0
    assert priced(OPENAI, "gpt-5", usage, {"service_tier": "default"}).nano_usd == plain.nano_usd


def test_a_known_host_of_the_same_format_has_its_own_table() -> None:
    groq = At("openai", "chat", "https://api.groq.com/openai/v1")
    assert pricing.unit_prices(groq, "llama-3.3-70b-versatile").input is not None
    assert pricing.unit_prices(OPENAI, "llama-3.3-70b-versatile").input is None


def test_an_unknown_host_has_the_table_of_its_format() -> None:
    gateway = At("openai", "chat", "https://llm-gateway.example.org/v1")
    assert pricing.unit_prices(gateway, "gpt-4o-mini") == pricing.unit_prices(OPENAI, "gpt-4o-mini")


def test_unit_prices_are_whole_nano_dollars_for_a_million_tokens() -> None:
    got = pricing.unit_prices(OPENAI, "gpt-4o-mini")
    assert (got.input, got.cached_input, got.output) == (150_000_000, 75_000_000, 600_000_000)
    assert got.version == pricing.price_version()
    assert got.version.startswith("genai-prices ")


def test_unit_prices_know_the_threshold_of_long_prompts() -> None:
    short, long = (pricing.unit_prices(ANTHROPIC, "claude-sonnet-4-5", input_tokens=n) for n in (200_000, 200_001))
    assert (short.input, long.input) == (3_000_000_000, 6_000_000_000)


@given(st.integers(0, 3_000_000), st.integers(0, 300_000))
def test_an_estimate_is_what_a_script_makes_of_bytes_and_unit_prices(in_bytes: int, out_bytes: int) -> None:
    """Redis settles a killed worker's call with this formula; it must come to the same money."""
    units = pricing.unit_prices(OPENAI, "gpt-4o-mini")
    assert units.input is not None
    assert units.output is not None
    tokens_in, tokens_out = -(-in_bytes // 3), -(-out_bytes // 3)
    script = (tokens_in * units.input + tokens_out * units.output + 500_000) // 1_000_000
    got = pricing.estimate(OPENAI, "gpt-4o-mini", in_bytes=in_bytes, out_bytes=out_bytes)
    assert got.nano_usd == script
    assert got.tokens == pricing.Tokens(input=tokens_in, output=tokens_out)
    assert got.estimated


def test_an_estimate_keeps_the_input_that_the_provider_had_told() -> None:
    early = {"input_tokens": 40, "cache_read_input_tokens": 60, "output_tokens": 1}
    got = pricing.estimate(ANTHROPIC, "claude-haiku-4-5", in_bytes=9_000, out_bytes=300, early_usage=early)
    assert got.tokens == pricing.Tokens(input=100, output=100, cached=60)
    assert got.nano_usd == 40 * 1000 + 60 * 100 + 100 * 5000


@pytest.mark.parametrize(
    ("usd", "nano"), [("0.0000000004", 0), ("0.0000000005", 1), ("0.0000000015", 2), ("0.00000000149999", 1)]
)
def test_money_is_rounded_once_and_half_up(usd: str, nano: int) -> None:
    assert to_nano(Decimal(usd)) == nano
