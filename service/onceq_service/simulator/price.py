"""What a provider would charge for the meter's own counts: integer nano-USD, from the genai-prices tables."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

import genai_prices

from onceq_service.simulator.ask import Provider
from onceq_service.simulator.script import Usage

PROVIDER_IDS: dict[Provider, str] = {"openai": "openai", "anthropic": "anthropic", "bedrock": "aws"}
NANO = Decimal(1_000_000_000)


def price_nano_usd(provider: Provider, model: str, usage: Usage) -> int | None:
    """Rounded half up; None for a model that the tables do not know."""
    counts = genai_prices.Usage(
        input_tokens=usage.input,
        cache_read_tokens=usage.cached or None,
        cache_write_tokens=usage.cache_write or None,
        output_tokens=usage.output,
        output_reasoning_tokens=usage.reasoning or None,
    )
    try:
        price = genai_prices.calc_price(counts, model, provider_id=PROVIDER_IDS[provider])
    except LookupError:
        return None
    return int((price.total_price * NANO).to_integral_value(rounding=ROUND_HALF_UP))
