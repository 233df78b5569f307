"""Prices of one's own with dates: which holds when, what it comes to, and what the tables say where there is none."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from onceq_service import pricing
from onceq_service.embedded.doctor import price_checks
from onceq_service.pricing import Tariff, UnitPrices, cost_at
from onceq_service.pricing.tariff import configured
from onceq_service.providers import open_providers
from onceq_service.settings import DEFAULT_PROVIDERS, FileConfig, PriceConfig
from tests.service.pricing.test_pricing import ANTHROPIC, OPENAI, chat_usage

MODEL = "openai/gpt-4o-mini"
TOKENS = st.integers(0, 10**9)
UNITS = st.integers(0, 10**12)


def own(since: str, usd_in: str = "1", usd_out: str = "2", model: str = MODEL, **more: Any) -> PriceConfig:
    values = {"model": model, "from": date.fromisoformat(since), "input": usd_in, "output": usd_out, **more}
    return PriceConfig.model_validate(values)


def test_the_latest_price_that_has_begun_holds() -> None:
    tariff = Tariff(DEFAULT_PROVIDERS, [own("2026-11-01", "3"), own("2026-01-01", "5")])
    versions = {at: tariff.local(MODEL, datetime.fromisoformat(at)) for at in (
        "2025-12-31T23:59:59+00:00", "2026-01-01T00:00:00+00:00", "2026-11-01T00:30:00+01:00", "2026-11-01T00:00:00Z",
    )}  # fmt: skip
    assert [price and price.version for price in versions.values()] == [
        None, "local:2026-01-01", "local:2026-01-01", "local:2026-11-01"
    ]  # fmt: skip
    assert tariff.local("openai/another") is None


def test_a_price_of_ones_own_goes_before_the_tables_for_every_kind_of_token() -> None:
    local = own("2026-01-01", "10", "20", cached="1")
    got = pricing.price(OPENAI, "gpt-4o-mini", chat_usage(1000, 100, cached=400, reasoning=30), local=local)
    assert got is not None
    assert (got.nano_usd, got.price_version) == (600 * 10_000 + 400 * 1_000 + 100 * 20_000, "local:2026-01-01")
    plain = pricing.price(OPENAI, "gpt-4o-mini", chat_usage(1000, 100, cached=400), local=own("2026-01-01", "10", "20"))
    assert plain is not None
    assert plain.nano_usd == 1000 * 10_000 + 100 * 20_000, "without a price of its own, cached input is other input"
    usage = {"input_tokens": 14, "cache_creation_input_tokens": 10, "cache_read_input_tokens": 100, "output_tokens": 20}
    written = pricing.price(ANTHROPIC, "any", usage, local=own("2026-01-01", "10", "20", cached="1", cache_write="15"))
    assert written is not None
    assert written.nano_usd == 14 * 10_000 + 10 * 15_000 + 100 * 1_000 + 20 * 20_000
    guessed = pricing.estimate(OPENAI, "nobody-knows-me", in_bytes=3, out_bytes=3, local=local)
    assert (guessed.nano_usd, guessed.price_version) == (30_000, "local:2026-01-01")


def test_unit_prices_are_the_ones_of_onceq_toml_else_the_tables_else_unknown() -> None:
    tariff = Tariff(DEFAULT_PROVIDERS, [own("2026-01-01", "0.5", "2", cached="0.25", model="openai/mine")])
    assert tariff.unit_prices("openai/mine", datetime(2026, 2, 1, tzinfo=UTC)) == UnitPrices(
        input=500_000_000, cached_input=250_000_000, output=2_000_000_000, cache_write=500_000_000,
        version="local:2026-01-01",
    )  # fmt: skip
    table = tariff.unit_prices(MODEL)
    assert (table.input, table.cached_input, table.output) == (150_000_000, 75_000_000, 600_000_000)
    assert tariff.unit_prices("anthropic/claude-haiku-4-5").cache_write == 1_250_000_000
    assert tariff.unit_prices("openai/mine", datetime(2025, 1, 1, tzinfo=UTC)).input is None
    assert tariff.unit_prices("nowhere/m").input is None


def test_the_api_looks_where_the_providers_themselves_look() -> None:
    configs = {name: config.model_copy(update={"simulated": True}) for name, config in DEFAULT_PROVIDERS.items()}
    for name, provider in open_providers(configs, {}).items():
        ours = configured(DEFAULT_PROVIDERS[name])
        assert (ours.price_provider, ours.api_flavor) == (provider.price_provider, provider.api_flavor)


@given(inputs=TOKENS, cached=TOKENS, out=TOKENS, units=st.tuples(UNITS, UNITS, UNITS))
def test_the_parts_of_a_cost_sum_to_it_within_their_own_rounding(
    inputs: int, cached: int, out: int, units: tuple[int, int, int]
) -> None:
    prices = UnitPrices(input=units[0], cached_input=units[1], output=units[2])
    cached = min(cached, inputs)

    def cost(**tokens: int) -> int:
        found = cost_at(prices, **({"input_tokens": 0, "cached_tokens": 0, "output_tokens": 0} | tokens))
        assert found is not None
        return found

    whole = cost(input_tokens=inputs, cached_tokens=cached, output_tokens=out)
    parts = (
        cost(input_tokens=inputs - cached) + cost(input_tokens=cached, cached_tokens=cached) + cost(output_tokens=out)
    )
    assert whole >= 0
    assert abs(whole - parts) <= 2
    exact = Decimal((inputs - cached) * units[0] + cached * units[1] + out * units[2]) / 1_000_000
    assert abs(whole - exact) <= Decimal("0.5")


def test_an_unknown_price_is_no_price() -> None:
    assert cost_at(UnitPrices(), input_tokens=1, cached_tokens=0, output_tokens=1) is None


@pytest.mark.parametrize("wrong", [{"input": -1}, {"model": "no-provider"}, {"from": "soon"}, {"outptu": 1}])
def test_a_price_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    values = {"model": MODEL, "from": date(2026, 1, 1), "input": 1, "output": 2} | wrong
    with pytest.raises(ValidationError):
        FileConfig.model_validate({"prices": [values]})


def test_two_prices_of_a_model_from_one_day_are_refused() -> None:
    row = {"model": MODEL, "from": date(2026, 1, 1), "input": 1, "output": 2}
    with pytest.raises(ValidationError, match="two prices of openai/gpt-4o-mini from 2026-01-01"):
        FileConfig.model_validate({"prices": [row, row | {"input": 3}]})


def test_doctor_says_which_price_holds_and_which_is_never_used() -> None:
    prices = [own("2026-01-01", "3"), own("2027-01-01", "2"), own("2027-01-01", model="openai/new"),
              own("2026-01-01", model="opnai/typo")]  # fmt: skip
    found = list(price_checks(prices, {"openai"}, datetime(2026, 11, 1, tzinfo=UTC)))
    assert [(c.level, c.name) for c in found] == [
        ("ok", f"price {MODEL}"), ("ok", "price openai/new"), ("fail", "price opnai/typo"),
    ]  # fmt: skip
    assert found[0].says.startswith("local:2026-01-01: 3 USD in")
    assert "openai" in found[2].advice
