"""GET /v1/costs: what a tenant spent, wasted and avoided, by hour or day and group; from rollups, never a scan."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from onceq.wire import CostDimension, Costs
from onceq.wire.words import RangeEnd
from onceq_service.api.auth import Reader
from onceq_service.api.http.problems import invalid_field
from onceq_service.api.openapi import documented as doc
from onceq_service.api.routes.stats import time_of
from onceq_service.api.service import In
from onceq_service.pricing import Tariff, cost_at
from onceq_service.store.stats import Group, Rollup, Span, totals
from onceq_service.store.views import Fields

KEPT: Final[dict[Span, timedelta]] = {"h": timedelta(days=35), "d": timedelta(days=400)}
"""How long sums live, as HOUR_TTL and DAY_TTL in lua/_money.lua; a question never goes further."""
USUAL: Final[dict[Span, timedelta]] = {"h": timedelta(hours=24), "d": timedelta(days=30)}

router = APIRouter(tags=["costs"])


class CostQuery(BaseModel):
    """`GET /v1/costs`: which costs, and how they are summed up."""

    model_config = ConfigDict(extra="forbid")

    since: Annotated[
        RangeEnd | None,
        Field(description=f"From the hour or day of this time on, {doc.MOMENT}; else the last 24 hours, or 30 days."),
    ] = None
    until: Annotated[
        RangeEnd | None, Field(description=f"To the hour or day of this time, {doc.MOMENT}; else now.")
    ] = None
    interval: Annotated[
        Literal["hour", "day", "total"], Field(description="A sum an hour, a day, or one of all days.")
    ] = "day"
    group_by: Annotated[
        list[CostDimension], Field(max_length=6, description="Sums of each value of it; repeat it for several.")
    ] = []
    restated_at: Annotated[RangeEnd | None, Field(description=doc.RESTATED)] = None


@router.get("/v1/costs", responses=doc.problems(401, 403, 422, 503))
async def get_costs(service: In, key: Reader, query: Annotated[CostQuery, Query()]) -> Costs:
    """Totals of the caller's tenant. An interval of `total` sums whole days up; hours are kept 35 days, days 400."""
    stats = service.store.stats
    now = time_of(await stats.now_ms())
    span: Span = "h" if query.interval == "hour" else "d"
    since, until = _reach(query, span, now)
    by = list(dict.fromkeys(query.group_by))
    finer: list[CostDimension] = by if query.restated_at is None or "model" in by else [*by, "model"]
    found = await stats.spans(key.tenant, span, _ms(since), _ms(until), finer)
    found = _totals(found, since) if query.interval == "total" else found
    points = [one.point() for one in coarser(found, by)]
    if query.restated_at is not None:
        again = await asyncio.to_thread(restated, found, by, service.tariff, query.restated_at)
        points = [p.model_copy(update={"restated_nano_usd": nano}) for p, nano in zip(points, again, strict=True)]
    return Costs(since=since, until=until, interval=query.interval, group_by=by, points=points)


def _reach(query: CostQuery, span: Span, now: datetime) -> tuple[datetime, datetime]:
    until = min(query.until or now, now)
    since = max(query.since or until - USUAL[span], now - KEPT[span])
    if since > until:
        raise invalid_field("query.since", "is after until or after now, so the range is empty")
    return since, until


def _totals(found: list[Rollup], since: datetime) -> list[Rollup]:
    """The days of each group in one."""
    groups: dict[Group, list[Fields]] = {}
    for one in found:
        groups.setdefault(one.group, []).extend(one.fields)
    return [Rollup(since, group, fields) for group, fields in groups.items()]


def coarser(found: Iterable[Rollup], by: Sequence[CostDimension]) -> list[Rollup]:
    """Sums by fewer dimensions, in the order in which their groups come first."""
    return [
        Rollup(at, group, [f for one in sums for f in one.fields]) for (at, group), sums in _places(found, by).items()
    ]


def restated(found: Iterable[Rollup], by: Sequence[CostDimension], tariff: Tariff, at: datetime) -> list[int | None]:
    """What each of the coarser sums would cost at the prices of a time; `found` must be by model too."""
    return [_together([_restated(one, tariff, at) for one in sums]) for sums in _places(found, by).values()]


def _places(found: Iterable[Rollup], by: Sequence[CostDimension]) -> dict[tuple[datetime, Group], list[Rollup]]:
    places: dict[tuple[datetime, Group], list[Rollup]] = {}
    for one in found:
        names = tuple((name, value) for name, value in one.group.names if name in by)
        places.setdefault((one.at, replace(one.group, names=names)), []).append(one)
    return places


def _restated(one: Rollup, tariff: Tariff, at: datetime) -> int | None:
    sums = totals(one.fields)
    if not (sums.input_tokens or sums.output_tokens):
        return 0
    return cost_at(
        tariff.unit_prices(dict(one.group.names)["model"], at), input_tokens=sums.input_tokens,
        cached_tokens=sums.cached_tokens, output_tokens=sums.output_tokens, cache_write_tokens=sums.cache_write_tokens,
    )  # fmt: skip


def _together(costs: Sequence[int | None]) -> int | None:
    known = [cost for cost in costs if cost is not None]
    return sum(known) if len(known) == len(costs) else None


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)
