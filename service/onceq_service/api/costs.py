"""GET /v1/costs: what a tenant spent, wasted and avoided, by hour or day and group; from rollups, never a scan."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from onceq.wire import CostDimension, Costs
from onceq_service.api import documented as doc
from onceq_service.api.auth import Reader
from onceq_service.api.problems import invalid_field
from onceq_service.api.service import In
from onceq_service.api.stats import time_of
from onceq_service.store.stats import Group, Span, Sum
from onceq_service.store.views import Fields

KEPT: Final[dict[Span, timedelta]] = {"h": timedelta(days=35), "d": timedelta(days=400)}
"""How long sums live, as HOUR_TTL and DAY_TTL in lua/_money.lua; a question never goes further."""
USUAL: Final[dict[Span, timedelta]] = {"h": timedelta(hours=24), "d": timedelta(days=30)}

router = APIRouter(tags=["costs"])


class CostQuery(BaseModel):
    """Which costs: repeat `group_by` for several dimensions. Without `since` it is the last 24 hours, or 30 days."""

    model_config = ConfigDict(extra="forbid")

    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    interval: Literal["hour", "day", "total"] = "day"
    group_by: Annotated[list[CostDimension], Field(max_length=6)] = []


@router.get("/v1/costs", responses=doc.problems(401, 403, 422, 503))
async def get_costs(service: In, key: Reader, query: Annotated[CostQuery, Query()]) -> Costs:
    """Totals of the caller's tenant. An interval of `total` sums whole days up; hours are kept 35 days, days 400."""
    sums = service.store.sums
    now = time_of(await sums.now_ms())
    span: Span = "h" if query.interval == "hour" else "d"
    since, until = _reach(query, span, now)
    by = list(dict.fromkeys(query.group_by))
    found = await sums.spans(key.tenant, span, _ms(since), _ms(until), by)
    points = _totals(found, since) if query.interval == "total" else found
    return Costs(
        since=since, until=until, interval=query.interval, group_by=by, points=[point.point() for point in points]
    )


def _reach(query: CostQuery, span: Span, now: datetime) -> tuple[datetime, datetime]:
    until = min(query.until or now, now)
    since = max(query.since or until - USUAL[span], now - KEPT[span])
    if since > until:
        raise invalid_field("query.since", "lies behind until: nothing was asked for")
    return since, until


def _totals(found: list[Sum], since: datetime) -> list[Sum]:
    """The days of each group in one."""
    groups: dict[Group, list[Fields]] = {}
    for one in found:
        groups.setdefault(one.group, []).extend(one.fields)
    return [Sum(since, group, fields) for group, fields in groups.items()]


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)
