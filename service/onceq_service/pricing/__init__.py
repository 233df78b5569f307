"""Usage to money: integer nano-USD by genai-prices' offline tables, never the network.

`price` for what a provider reported, `estimate` where it did not report, `unit_prices` for a script that has to settle
what a killed worker spent, `call_bound` and `cost_bounds` for what a request may cost at most. A model that the tables
do not know has no price (None), never the price 0.
"""

from onceq_service.pricing.bounds import (
    CallBound,
    CallRule,
    CostBounds,
    call_bound,
    call_rule,
    cost_bounds,
    input_tokens,
)
from onceq_service.pricing.price import Priced, Tokens, estimate, estimated_tokens, price
from onceq_service.pricing.tables import Priceable, UnitPrices, load_tables, price_version, unit_prices
from onceq_service.pricing.tariff import Tariff, cost_at, local_units

__all__ = [
    "CallBound",
    "CallRule",
    "CostBounds",
    "Priceable",
    "Priced",
    "Tariff",
    "Tokens",
    "UnitPrices",
    "call_bound",
    "call_rule",
    "cost_at",
    "cost_bounds",
    "estimate",
    "estimated_tokens",
    "input_tokens",
    "load_tables",
    "local_units",
    "price",
    "price_version",
    "unit_prices",
]
