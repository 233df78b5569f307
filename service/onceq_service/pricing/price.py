"""What one call cost: tokens by genai-prices' extraction, money by its tables, rounded once to whole nano-USD."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from sys import maxsize
from typing import TYPE_CHECKING, Final

from onceq_service.pricing import tables
from onceq_service.pricing.tables import Priceable

if TYPE_CHECKING:
    from genai_prices import Usage

    from onceq_service.settings import PriceConfig

BYTES_PER_TOKEN: Final = 3
"""UTF-8 bytes of text to one token, rounded up: measured to over-count text 1.1 to 2.7 times, and to count 0.6 to 0.8
of emoji and hex. The bytes themselves are a hard ceiling."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Input includes what was read from the provider's cache and written to it, output includes reasoning."""

    input: int = 0
    output: int = 0
    cached: int = 0
    reasoning: int = 0
    cache_write: int = 0


@dataclass(frozen=True, slots=True)
class Priced:
    """What a call came to. `nano_usd` None: the price is not known. `estimated`: the tokens are counted by us."""

    tokens: Tokens
    nano_usd: int | None
    estimated: bool
    price_version: str


def price(
    provider: Priceable,
    model_id: str,
    usage: Mapping[str, object] | None,
    *,
    context: Mapping[str, str] | None = None,
    local: PriceConfig | None = None,
) -> Priced | None:
    """The price of what the provider reported (CallStream.usage and .price_context); None when it can't be read.

    `local` is onceq.toml's own price of the model, which goes before the tables.

    None asks for `estimate`: no usage was reported, or it lacks the counts that its format promises.
    """
    extracted = _extract(provider, usage)
    if extracted is None:
        return None
    return Priced(_tokens(extracted), _money(provider, model_id, extracted, context, local), False, _version(local))


def estimate(
    provider: Priceable,
    model_id: str,
    *,
    in_bytes: int,
    out_bytes: int,
    max_tokens: int | None = None,
    early_usage: Mapping[str, object] | None = None,
    local: PriceConfig | None = None,
) -> Priced:
    """What a call may have cost by the UTF-8 bytes of its text, both ways; its answer had at most `max_tokens`.

    `early_usage` (CallStream.early_usage) replaces our count of the input where the provider had told its own.
    """
    early = _tokens(extracted) if (extracted := _extract(provider, early_usage)) else Tokens()
    tokens = Tokens(
        input=early.input or estimated_tokens(in_bytes),
        output=max(early.output, min(estimated_tokens(out_bytes), max_tokens or maxsize)),
        cached=early.cached,
    )
    money = _money(provider, model_id, _usage(tokens), None, local)
    return Priced(tokens, money, True, _version(local))


def estimated_tokens(utf8_bytes: int) -> int:
    """ceil(bytes / 3): the count that every estimate of onceq uses, in Lua too."""
    return -(-utf8_bytes // BYTES_PER_TOKEN)


def _extract(provider: Priceable, usage: Mapping[str, object] | None) -> Usage | None:
    if not usage:
        return None
    import genai_prices

    try:
        # The shape belongs to the wire format, whoever's prices apply; the model is looked up by our own id.
        return genai_prices.extract_usage(
            {"usage": usage}, provider_id=provider.price_provider, api_flavor=provider.api_flavor
        ).usage
    except ValueError:
        return None


def _version(local: PriceConfig | None) -> str:
    return tables.price_version() if local is None else local.version


def _money(
    provider: Priceable, model_id: str, usage: Usage, context: Mapping[str, str] | None, local: PriceConfig | None
) -> int | None:
    """None for an unknown model, and for a kind of token that the model has no price for."""
    if local is not None:
        return _local_money(local, usage)
    found = tables.find(provider, model_id)
    if found is None:
        return None
    table, model = found
    try:
        return tables.to_nano(model.calc_price(usage, table, price_context=context or None).total_price)
    except ValueError:
        return None


def _local_money(local: PriceConfig, usage: Usage) -> int:
    """Every token is priced: what has no price of its own (audio, a longer cache) costs as its side's text does."""
    from genai_prices.types import ModelPrice

    prices = ModelPrice(
        input_mtok=local.input, output_mtok=local.output,
        cache_read_mtok=local.cached, cache_write_mtok=local.cache_write,
    )  # fmt: skip
    return tables.to_nano(prices.calc_price(usage)["total_price"])


def _tokens(usage: Usage) -> Tokens:
    """`reported_value` is 0 for what the provider does not tell: Bedrock counts no reasoning apart."""
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "output_reasoning_tokens", "cache_write_tokens")
    return Tokens(*(int(usage.reported_value(name)) for name in names))


def _usage(tokens: Tokens) -> Usage:
    import genai_prices

    return genai_prices.Usage(
        input_tokens=tokens.input, output_tokens=tokens.output, cache_read_tokens=tokens.cached or None
    )
