"""What a job may cost and when it may start: POST /v1/quote, which creates nothing, and in the 202 of a new job.

In a 202 it costs a look into memory: the bounds are known already, a lane's queue is looked at once a second.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

import msgspec
from fastapi import APIRouter, Request

from onceq.wire import CostQuote, JobRequest, Quote
from onceq_service.api.auth import Submitter
from onceq_service.api.catalog import Resolved
from onceq_service.api.http.body import parse, read_json
from onceq_service.api.middleware import HEADS
from onceq_service.api.openapi import documented as doc
from onceq_service.api.service import In, Service
from onceq_service.api.submission import max_cost
from onceq_service.api.submission.admission import BoundedRequest, admission, likely_input_tokens
from onceq_service.api.submission.allowance import refused_by_a_budget
from onceq_service.api.submission.receipt import Values, rfc3339
from onceq_service.pricing import Tariff, cost_at
from onceq_service.store import Pace
from onceq_service.store.stats import Group, totals
from onceq_service.store.views import at, usd

RECENT_MS: Final = round(timedelta(hours=24).total_seconds() * 1000)

_ENCODE: Final = msgspec.json.Encoder().encode

router = APIRouter(tags=["costs"])


@router.post(
    "/v1/quote",
    responses=doc.problems(400, 401, 403, 413, 415, 422, 503),
    openapi_extra=doc.body_of(JobRequest),
)
async def get_quote(request: Request, service: In, key: Submitter) -> Quote:
    """What a post of the same body may cost, and when its job may start. Creates nothing, and promises no place."""
    asked = parse(JobRequest, await read_json(request.scope[HEADS], request.receive))
    models = await service.models_of(asked)
    await service.prices()
    bounded = max_cost.with_bounds(service.tariff, asked, models, service.defaults.max_calls)
    admission(bounded, key, None, models, await service.hasher(), service.defaults)  # raises what a post would
    pace = await service.pace(models[0].model)
    expected = await _expected(service, key.tenant, models[0], bounded)
    told = quote(bounded, pace, service.free_slots(models[0].provider), expected=expected)
    if told.refused is not None:
        return told
    return told.model_copy(update={"refused": await refused_by_a_budget(service, key, models, bounded)})


def quote(bounded: BoundedRequest, pace: Pace, free: int, *, expected: int | None = None) -> Quote:
    """The quote of a request whose first model's lane goes at this pace, with so many slots free."""
    return Quote(
        cost=_cost(bounded, expected),
        jobs_ahead=pace.ahead[bounded.request.band],
        expected_start_at=at(_start_ms(bounded, pace, free)),
        refused=_refused(bounded),
    )


def _start_ms(bounded: BoundedRequest, pace: Pace, free: int) -> int | None:
    request, start_ms = bounded.request, pace.start_ms(bounded.request.band, free)
    if start_ms is None or request.not_before is None:
        return start_ms
    return max(start_ms, round(request.not_before.timestamp() * 1000))


def _cost(bounded: BoundedRequest, expected: int | None) -> CostQuote:
    upper = bounded.upper
    return CostQuote(
        expected_nano_usd=expected if upper is None or expected is None else min(expected, upper),
        call_upper_nano_usd=bounded.bounds.call.nano_usd,
        upper_nano_usd=upper,
        upper_usd=None if upper is None else usd(upper),
        unbounded=bounded.bounds.call.detail or None,
    )


def _refused(bounded: BoundedRequest) -> str | None:
    call, limit = bounded.bounds.call, bounded.max_cost
    if limit is None or (call.nano_usd is not None and call.nano_usd <= limit):
        return None
    return max_cost.too_expensive(bounded).code


def in_a_receipt(bounded: BoundedRequest, pace: Pace, free: int) -> Values:
    """The quote of admitted requests like this one for their 202s, but for what their words cost: a model would take a
    tenth of a post's time.
    """
    start_ms, ahead = _start_ms(bounded, pace, free), pace.ahead[bounded.request.band]
    detail = bounded.bounds.call.detail
    return {
        "unbounded": _ENCODE(detail).decode() if detail else "null",
        "jobs_ahead": "null" if ahead is None else ahead,
        "expected_start_at": "null" if start_ms is None else f'"{rfc3339(start_ms)}"',
    }


async def _expected(service: Service, tenant: str, model: Resolved, bounded: BoundedRequest) -> int | None:
    """A call with the mean output of the tenant's last day on the model; None where it had none, or no price."""
    stats = service.store.stats
    now_ms = await stats.now_ms()
    found = await stats.spans(tenant, "h", now_ms - RECENT_MS, now_ms, ("model",))
    alike = Group(model.simulated, (("model", model.model),), ())
    recent = totals([fields for one in found if one.group == alike for fields in one.fields])
    if recent.calls == 0:
        return None
    tokens = -(-recent.output_tokens // recent.calls)
    return await asyncio.to_thread(_likely_cost, service.tariff, model.model, bounded, tokens)


def _likely_cost(tariff: Tariff, model: str, bounded: BoundedRequest, output_tokens: int) -> int | None:
    """What a call of so many output tokens comes to, its input counted as lanes count it."""
    given, most = likely_input_tokens(bounded.body), bounded.bounds.calls[0].output_tokens
    answer = output_tokens if most is None else min(output_tokens, most)
    return cost_at(
        tariff.unit_prices(model, input_tokens=given), input_tokens=given, cached_tokens=0, output_tokens=answer
    )
