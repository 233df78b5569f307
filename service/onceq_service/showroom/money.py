"""What the showroom's tries cost: by the prices as they were on their day, through the product's own tariff."""

from __future__ import annotations

from datetime import UTC, datetime

from onceq_service.pricing import Tariff, UnitPrices, cost_at, estimated_tokens
from onceq_service.showroom.provider import REASONS
from onceq_service.store.engine import CallPrices, Receipt

BYTES_PER_TOKEN = 4
CACHED_FROM = 400
"""Input tokens from which a provider's cache has a part of a prompt that comes again and again."""


class Prices:
    """Unit prices by model and day; each is looked up once."""

    def __init__(self, tariff: Tariff) -> None:
        self._tariff = tariff
        self._known: dict[tuple[str, int], UnitPrices] = {}

    def units(self, model: str, at_ms: int) -> UnitPrices:
        """Nano-USD for a million tokens on that day."""
        day = at_ms // 86_400_000
        if (model, day) not in self._known:
            self._known[model, day] = self._tariff.unit_prices(model, datetime.fromtimestamp(at_ms / 1000, UTC))
        return self._known[model, day]

    def recorded(self, model: str, at_ms: int) -> CallPrices:
        """As `dispatch` records them."""
        units = self.units(model, at_ms)
        return CallPrices(units.input, units.output, units.version)

    def reported(self, model: str, at_ms: int, in_bytes: int, out_tokens: int) -> Receipt:
        """A whole answer, with the usage that its provider reports."""
        given = in_bytes // BYTES_PER_TOKEN + 1
        cached = given // 2 if given > CACHED_FROM else 0
        thought = round(out_tokens * REASONS[model]) if model in REASONS else 0
        cost = cost_at(
            self.units(model, at_ms), input_tokens=given, cached_tokens=cached, output_tokens=out_tokens + thought
        )
        return Receipt(
            "ok", billed=True, input_tokens=given, output_tokens=out_tokens + thought, cached_tokens=cached,
            reasoning_tokens=thought, spent_nano_usd=cost,
        )  # fmt: skip

    def estimated(self, outcome: str, model: str, at_ms: int, in_bytes: int, out_bytes: int) -> Receipt:
        """A part of an answer, counted by its bytes as workers do it."""
        given, got = estimated_tokens(in_bytes), estimated_tokens(out_bytes)
        cost = cost_at(self.units(model, at_ms), input_tokens=given, cached_tokens=0, output_tokens=got)
        return Receipt(outcome, billed=True, estimated=True, input_tokens=given, output_tokens=got, spent_nano_usd=cost)
