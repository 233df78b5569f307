"""genai-prices, reached in one place: which table a provider's models are in, and what they cost by the million.

Importing genai-prices takes more than a second, so it happens with the first look, not with the import of this module.
Bedrock's ids are found as they are written: regional prefixes (`us.`, `eu.`, `global.`), versions and ARNs included;
a bare `anthropic.` id has the regional price.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from functools import cache, lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Final, Protocol

from onceq.wire import NANO

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice
    from genai_prices.types import Provider as Table

MTOK: Final = 1_000_000
"""Tokens in genai-prices' unit of price."""
_PERIOD_S: Final = 900
"""Some prices change with the date or the time of day (a quarter of an hour is the finest step), so what is kept from
the tables is looked up again in each period."""


class Priceable(Protocol):
    """What a provider says of its prices (providers.base.Provider)."""

    @property
    def price_provider(self) -> str:
        """The table in genai-prices: `openai`, `anthropic`, `aws`."""
        ...

    @property
    def price_url(self) -> str | None:
        """The base URL: a known host of the same wire format (Groq, OpenRouter, ...) has a table of its own."""
        ...

    @property
    def api_flavor(self) -> str:
        """genai-prices' name for the shape of `usage`."""
        ...


@dataclass(frozen=True, slots=True)
class UnitPrices:
    """nano-USD for a million tokens; all None where the model has no known price."""

    input: int | None = None
    cached_input: int | None = None
    output: int | None = None
    cache_write: int | None = None
    version: str = ""


@cache
def price_version() -> str:
    """Where prices come from, as stored beside them: `genai-prices <version>`."""
    return f"genai-prices {version('genai-prices')}"


def load_tables() -> None:
    """Imports the tables, which takes a second; what looks up a price would do it else."""
    from genai_prices.data_snapshot import get_snapshot

    get_snapshot()


def unit_prices(
    provider: Priceable,
    model_id: str,
    *,
    input_tokens: int = 0,
    context: Mapping[str, str] | None = None,
    at: datetime | None = None,
) -> UnitPrices:
    """Prices by the million for a call of that many input tokens: some models cost more beyond a threshold.

    `at` is when, None now. Cache reads and writes cost as much as other input where the table has no price for them.
    """
    key, when_s = tuple(sorted((context or {}).items())), time.time() if at is None else at.timestamp()
    prices = _prices(provider.price_provider, provider.price_url, model_id, key, int(when_s / _PERIOD_S))
    return UnitPrices(version=price_version()) if prices is None else _at(prices, input_tokens)


def find(provider: Priceable, model_id: str) -> tuple[Table, ModelInfo] | None:
    """The table and the model in it; None for a model that it does not know."""
    return look_up(provider.price_provider, provider.price_url, model_id)


def to_nano(usd: Decimal) -> int:
    """US dollars to integer nano-USD, half up: the one rounding, done on a call's whole price."""
    return int((usd * NANO).to_integral_value(rounding=ROUND_HALF_UP))


def _at(prices: ModelPrice, input_tokens: int) -> UnitPrices:
    from genai_prices.types import calc_unit_price

    def nano(price_key: str) -> int | None:
        price = getattr(prices, price_key, None)
        return None if price is None else to_nano(calc_unit_price(price, MTOK, input_tokens, MTOK))

    cached, cache_write = nano("cache_read_mtok"), nano("cache_write_mtok")
    return UnitPrices(
        input=nano("input_mtok"),
        cached_input=nano("input_mtok") if cached is None else cached,
        output=nano("output_mtok"),
        cache_write=nano("input_mtok") if cache_write is None else cache_write,
        version=price_version(),
    )


@lru_cache(maxsize=4096)
def _prices(
    table: str, url: str | None, model_id: str, context: tuple[tuple[str, str], ...], period: int
) -> ModelPrice | None:
    found = look_up(table, url, model_id)
    at = datetime.fromtimestamp(period * _PERIOD_S, UTC)
    return None if found is None else found[1].get_prices(at, dict(context) or None)


@lru_cache(maxsize=4096)
def look_up(table: str, url: str | None, model_id: str) -> tuple[Table, ModelInfo] | None:
    """As `find`, by the names of the table and of the host."""
    from genai_prices.data_snapshot import get_snapshot

    snapshot = get_snapshot()
    try:
        return snapshot.find_provider_model(model_id, None, _host(url) or table, None)
    except LookupError:
        return None


@lru_cache(maxsize=256)
def _host(url: str | None) -> str | None:
    """The table of a host that genai-prices knows; None for one's own server or gateway, which has the format's own."""
    from genai_prices.data_snapshot import get_snapshot

    try:
        return get_snapshot().find_provider(None, None, url).id if url else None
    except LookupError:
        return None
