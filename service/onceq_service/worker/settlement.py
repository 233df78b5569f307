"""What a try came to: the provider's own usage where it reported one, else an estimate marked so; pure."""

from __future__ import annotations

from dataclasses import dataclass

from onceq.wire import CancelReceipt, Usage
from onceq_service.pricing import Priced, estimate, estimated_tokens, local_units, price, unit_prices
from onceq_service.providers.base import Provider
from onceq_service.settings import PriceConfig
from onceq_service.store.engine import CallPrices, Receipt
from onceq_service.worker.call import LiveCall
from onceq_service.worker.claimed import StopReason
from onceq_service.worker.result import CallResult


@dataclass(frozen=True, slots=True)
class _Priceable:
    """pricing.Priceable for one answer: a provider may have more than one format of usage."""

    price_provider: str
    price_url: str | None
    api_flavor: str


_STOPPED = {"cancel": "cancelled", "deadline": "deadline_exceeded", "timeout": "provider_timeout"}


def prices_before(provider: Provider, model_id: str, in_bytes: int, local: PriceConfig | None = None) -> CallPrices:
    """The unit prices that `dispatch` records, so that a reap can settle what a killed worker spent."""
    found = local_units(local) if local else unit_prices(provider, model_id, input_tokens=estimated_tokens(in_bytes))
    return CallPrices(found.input, found.output, found.version)


def settle(
    provider: Provider,
    model_id: str,
    in_bytes: int,
    result: CallResult,
    call: LiveCall,
    reason: StopReason | None,
    local: PriceConfig | None = None,
    *,
    max_tokens: int | None = None,
    call_bound: int | None = None,
) -> Receipt:
    """The receipt of a try that has ended, however it did. `local`: onceq.toml's price when it was sent.

    An estimate goes no further than what the call may have answered (tokens) and cost (nano-USD) at most.
    """
    outcome = _outcome(result, reason)
    if not _billable(result):
        return Receipt(outcome, billed=False)
    priceable = _Priceable(provider.price_provider, provider.price_url, result.api_flavor or provider.api_flavor)
    priced = price(priceable, model_id, result.usage, context=result.price_context, local=local) or estimate(
        priceable,
        model_id,
        in_bytes=in_bytes,
        out_bytes=call.out_bytes,
        early_usage=result.early_usage,
        local=local,
        max_tokens=max_tokens,
    )
    return _receipt(outcome, priced, call_bound)


def usage_of(receipt: Receipt) -> Usage:
    """The usage that the terminal event and the job show."""
    return Usage(
        input_tokens=receipt.input_tokens, output_tokens=receipt.output_tokens, cached_tokens=receipt.cached_tokens,
        reasoning_tokens=receipt.reasoning_tokens, estimated=receipt.estimated,
    )  # fmt: skip


def cancel_receipt(
    receipt: Receipt | None, result: CallResult, max_tokens: int | None, prices: CallPrices
) -> CancelReceipt:
    """What the owner of a cancelled job is told: what was written, booked and saved, and what may still be billed."""
    if receipt is None or not receipt.billed:
        return CancelReceipt()
    left = None if max_tokens is None or prices.output is None else max(0, max_tokens - receipt.output_tokens)
    return CancelReceipt(
        output_tokens=receipt.output_tokens, spent_nano_usd=receipt.spent_nano_usd, estimated=receipt.estimated,
        may_still_bill=result.usage is None,
        saved_nano_usd=None if left is None or prices.output is None else left * prices.output // 1_000_000,
    )  # fmt: skip


def _outcome(result: CallResult, reason: StopReason | None) -> str:
    if result.complete:
        return "ok"
    if result.error is not None:
        return result.error.code
    return _STOPPED.get(reason or "", "worker_lost")


def _billable(result: CallResult) -> bool:
    """Turned away before any work is free; whatever the provider had begun may be on its bill.

    A background response was begun, whatever became of the attempts to take it up again.
    """
    if not result.begun:
        return False
    if result.response is not None:
        return True
    return result.error is None or result.usage is not None or result.error.may_be_billed


def _receipt(outcome: str, p: Priced, call_bound: int | None) -> Receipt:
    t, spent = p.tokens, p.nano_usd
    if spent is not None and p.estimated and call_bound is not None:
        spent = min(spent, call_bound)
    return Receipt(
        outcome, billed=True, estimated=p.estimated, input_tokens=t.input, output_tokens=t.output,
        cached_tokens=t.cached, reasoning_tokens=t.reasoning, spent_nano_usd=spent,
        cache_write_tokens=t.cache_write,
    )  # fmt: skip
