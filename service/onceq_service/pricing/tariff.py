"""What a model's tokens cost at a time: onceq.toml's own dated prices first, then genai-prices' tables.

The worker books by it, the API asks it what the same tokens would cost at another time (restated cost), and what a
request may cost at most: so no provider client is imported here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Final

from onceq_service.pricing import tables
from onceq_service.pricing.ceilings import LIFE, Ceilings, ceilings, highest, local_ceilings
from onceq_service.pricing.tables import MTOK, UnitPrices
from onceq_service.settings import PriceConfig, ProviderConfig, ProviderKind

TABLES: Final[dict[ProviderKind, tuple[str, str]]] = {
    "openai": ("openai", "chat"), "anthropic": ("anthropic", "default"), "bedrock": ("aws", "default"),
}  # fmt: skip
"""genai-prices' table and usage format of a kind of provider, as its file in providers/ says too."""


@dataclass(frozen=True, slots=True)
class Configured:
    """A Priceable by configuration alone, for who may not open the provider."""

    price_provider: str
    price_url: str | None
    api_flavor: str
    kind: ProviderKind


class Tariff:
    """Prices of models named `<provider>/<model id>`."""

    def __init__(
        self, providers: Mapping[str, ProviderConfig] | None = None, local: Sequence[PriceConfig] = ()
    ) -> None:
        self._sources = {name: configured(config) for name, config in (providers or {}).items()}
        self._local: dict[str, list[PriceConfig]] = {}
        for price in sorted(local, key=lambda p: p.since):
            self._local.setdefault(price.model, []).append(price)

    def local(self, model: str, at: datetime | None = None) -> PriceConfig | None:
        """The latest of onceq.toml's prices that has begun by then (None: now); None where there is none."""
        day = (at or datetime.now(UTC)).astimezone(UTC).date()
        begun = [price for price in self._local.get(model, ()) if price.since <= day]
        return begun[-1] if begun else None

    def unit_prices(self, model: str, at: datetime | None = None, *, input_tokens: int = 0) -> UnitPrices:
        """Nano-USD for a million tokens of a model at a time (None: now); all None where the price is not known.

        The first look imports the tables, which takes a second: not in an event loop.
        """
        local = self.local(model, at)
        if local is not None:
            return local_units(local)
        provider, _, model_id = model.partition("/")
        source = self._sources.get(provider)
        if source is None:
            return UnitPrices()
        return tables.unit_prices(source, model_id, input_tokens=input_tokens, at=at)

    def kind(self, model: str) -> ProviderKind | None:
        """The wire format that the model's provider speaks; None for a provider that is not configured."""
        source = self._sources.get(model.partition("/")[0])
        return source.kind if source else None

    def ceilings(self, model: str) -> Ceilings | None:
        """The highest prices that may hold for the model while a job lives; None where the price is not known.

        The first look imports the tables, which takes a second: not in an event loop.
        """
        provider, _, model_id = model.partition("/")
        source, local = self._sources.get(provider), self._local_ones(model)
        tabled = ceilings(source, model_id) if source else None
        if not local:
            return tabled
        own = [local_ceilings(price) for price in local]
        if self.local(model) is None and tabled is not None:
            own.append(tabled)
        found = highest(own)
        return replace(found, window=tabled.window) if found and tabled else found

    def _local_ones(self, model: str) -> list[PriceConfig]:
        """Those of onceq.toml's prices that hold now or begin while a job lives."""
        if model not in self._local:
            return []
        now, last = self.local(model), (datetime.now(UTC) + LIFE).date()
        begun = now.since if now else date.min
        return [price for price in self._local.get(model, ()) if begun <= price.since <= last]


def configured(config: ProviderConfig) -> Configured:
    """Where a configured provider's prices are."""
    table, flavor = TABLES[config.kind]
    return Configured(table, None if config.kind == "bedrock" else config.base_url, flavor, config.kind)


def local_units(price: PriceConfig) -> UnitPrices:
    """A price of onceq.toml by the million; what it leaves out of the cache costs as other input does."""
    cached = price.input if price.cached is None else price.cached
    cache_write = price.input if price.cache_write is None else price.cache_write
    return UnitPrices(
        input=tables.to_nano(price.input),
        cached_input=tables.to_nano(cached),
        output=tables.to_nano(price.output),
        cache_write=tables.to_nano(cache_write),
        version=price.version,
    )


def cost_at(
    units: UnitPrices, *, input_tokens: int, cached_tokens: int, output_tokens: int, cache_write_tokens: int = 0
) -> int | None:
    """Nano-USD of tokens by unit prices, rounded once, half up; None where a price is not known.

    `input_tokens` includes those read from the cache and those written to it.
    """
    if units.input is None or units.output is None:
        return None
    cached_price = units.input if units.cached_input is None else units.cached_input
    write_price = units.input if units.cache_write is None else units.cache_write
    cached = min(cached_tokens, input_tokens)
    written = min(cache_write_tokens, input_tokens - cached)
    micro = (input_tokens - cached - written) * units.input + cached * cached_price + written * write_price
    micro += output_tokens * units.output
    return (2 * micro + MTOK) // (2 * MTOK)
