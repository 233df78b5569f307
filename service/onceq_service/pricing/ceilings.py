"""The dearest that a model's tokens can get while a job lives: what an upper bound of its cost is made of.

A price that holds now may change before the call: with the hour, on a date, by a tier that the provider picks itself
(OpenAI's `auto` is what the project says). So each side's ceiling is the highest of all of them, caching included.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from onceq.wire import NANO
from onceq_service.pricing import tables
from onceq_service.pricing.tables import Priceable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from genai_prices.types import ModelInfo, ModelPrice, Tier, TieredPrices

    from onceq_service.settings import PriceConfig

    Price = Decimal | TieredPrices

LIFE: Final = timedelta(days=8)
"""Longer than any job: a deadline is at most seven days away."""
_STEP: Final = timedelta(minutes=15)
"""The finest step of prices that change with the time of day."""
_KEPT_S: Final = 3_600


@dataclass(frozen=True, slots=True)
class Step:
    """nano-USD for a million tokens of a call with more than so many input tokens; rounded up."""

    above: int
    input: int
    output: int


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Of one model: steps from the lowest on, neither side ever falling; `window`: tokens of its context, if known."""

    steps: tuple[Step, ...]
    window: int | None = None

    def at(self, input_tokens: int) -> Step:
        """What holds at most for a call of up to that many input tokens."""
        found = self.steps[0]
        for step in self.steps[1:]:
            if step.above < input_tokens:
                found = step
        return found


def ceilings(provider: Priceable, model_id: str) -> Ceilings | None:
    """By genai-prices' tables; None for a model without a price of both sides."""
    period = int(time.time() / _KEPT_S)
    return _ceilings(provider.price_provider, provider.price_url, model_id, period)


def local_ceilings(price: PriceConfig) -> Ceilings:
    """By a price of onceq.toml, whatever of its input kinds is dearest."""
    inputs = [price.input, *(kind for kind in (price.cached, price.cache_write) if kind is not None)]
    return Ceilings((Step(-1, _nano(max(inputs)), _nano(price.output)),))


def highest(of: Iterable[Ceilings]) -> Ceilings | None:
    """Of several price lists, any of which may hold; None where there is none."""
    lists = list(of)
    if not lists:
        return None
    starts = sorted({step.above for one in lists for step in one.steps})
    found = [(above, [one.at(above + 1) for one in lists]) for above in starts]
    steps = [Step(above, max(s.input for s in at), max(s.output for s in at)) for above, at in found]
    return Ceilings(tuple(steps), next((one.window for one in lists if one.window is not None), None))


@lru_cache(maxsize=1024)
def _ceilings(table: str, url: str | None, model_id: str, period: int) -> Ceilings | None:
    found = tables.look_up(table, url, model_id)
    if found is None:
        return None
    model, now = found[1], datetime.fromtimestamp(period * _KEPT_S, UTC)
    prices = [vars(price) for price in _possible(model, now)]
    starts = [-1, *sorted({tier.start for price in prices for one in price.values() for tier in _tiers(one)})]
    steps = [_step(prices, above) for above in starts]
    priced = [step for step in steps if step is not None]
    return Ceilings(tuple(priced), model.context_window) if len(priced) == len(steps) else None


def _possible(model: ModelInfo, now: datetime) -> list[ModelPrice]:
    """Every list of prices that may hold for a call within a job's life, those of other tiers of service included."""
    variants = [variant.prices for variant in model.price_variants or ()]
    if not isinstance(model.prices, list):
        return [model.prices, *variants]
    times = (now + n * _STEP for n in range(LIFE // _STEP))
    return [*{id(price): price for price in map(model.get_prices, times)}.values(), *variants]


def _step(prices: Iterable[Mapping[str, Price | None]], above: int) -> Step | None:
    """Text and images: audio is asked for by `params` that leave a call without a bound."""
    named = [(key, price) for one in prices for key, price in one.items() if price is not None]
    tokens = [(key, _dearest(price, above)) for key, price in named if key.endswith("_mtok") and "audio" not in key]
    inputs = [price for key, price in tokens if not key.startswith("output")]
    outputs = [price for key, price in tokens if key.startswith("output")]
    return Step(above, _nano(max(inputs)), _nano(max(outputs))) if inputs and outputs else None


def _dearest(price: Price, above: int) -> Decimal:
    """Of a price with tiers: of those that a call of just over so many input tokens may be in."""
    if isinstance(price, Decimal):
        return price
    return max([price.base, *(tier.price for tier in price.tiers if tier.start <= above)])


def _tiers(price: Price | None) -> Sequence[Tier]:
    return () if price is None or isinstance(price, Decimal) else price.tiers


def _nano(usd: Decimal) -> int:
    return int((usd * NANO).to_integral_value(rounding=ROUND_CEILING))
