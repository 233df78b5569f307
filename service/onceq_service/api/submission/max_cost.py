"""What a request may cost, known before it is admitted; and the refusal of one that may cost more than it allows."""

from __future__ import annotations

from collections.abc import Sequence

from onceq.wire import JobRequest
from onceq_service.api.catalog import Resolved
from onceq_service.api.http.problems import Refused
from onceq_service.api.submission import codec
from onceq_service.api.submission.admission import BoundedRequest
from onceq_service.pricing import Tariff, cost_bounds
from onceq_service.store.views import usd


def with_bounds(tariff: Tariff, request: JobRequest, models: Sequence[Resolved], max_calls: int) -> BoundedRequest:
    """The request as it will be stored, with its bounds; the price tables must have been loaded."""
    body = codec.dump(request)
    calls = request.max_calls or max_calls
    return BoundedRequest(request, body, cost_bounds(tariff, [model.model for model in models], request, body, calls))


def too_expensive(bounded: BoundedRequest) -> Refused:
    """402: what the first call may cost, what was allowed, and what would fit."""
    call, limit = bounded.bounds.call, bounded.max_cost or 0
    if call.nano_usd is None:
        detail = f"max_cost_usd needs to know what a call may cost at most. {call.detail} Nothing was stored."
        return Refused(call.why or "unbounded_cost", detail)
    what = (
        f"A call of {call.model} may cost up to {usd(call.nano_usd)} USD ({call.input_tokens} input and "
        f"{call.output_tokens} output tokens at most), and max_cost_usd is {usd(limit)}."
    )
    return Refused("max_cost_exceeded", f"{what} {_what_to_do(call.longest(limit))} Nothing was stored.")


def _what_to_do(longest: int) -> str:
    if longest == 0:
        return "Raise max_cost_usd, or shorten what is asked."
    return f"Raise max_cost_usd, or set max_tokens to {longest} or less."
