"""GET /v1/stats: a tenant's queue now and its last 24 hours; read at most once a second for each tenant."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from fastapi import APIRouter, Response

from onceq.wire import Fleet, Stats, Totals, WorkerInfo
from onceq_service.api.auth import Reader
from onceq_service.api.openapi import documented as doc
from onceq_service.api.service import In, Service
from onceq_service.store.stats import HOUR_MS, Rollup, totals

router = APIRouter(tags=["stats"])


@router.get("/v1/stats", response_model=Stats, responses=doc.problems(401, 403, 503))
async def get_stats(service: In, key: Reader) -> Response:
    """Counts, times and money of the caller's tenant.

    `last_hour` is the current clock hour and the one before it; where the whole stack runs on the simulator
    (`simulated`) it is about simulated jobs, else about real ones. Sums never mix the two.
    """
    operator = key.may("operator")
    name = f"{key.tenant} as operator" if operator else key.tenant
    body = await service.stats.get(name, lambda: _read(service, key.tenant, operator=operator))
    return Response(body, media_type="application/json")


async def _read(service: Service, tenant: str, *, operator: bool) -> bytes:
    stats = service.store.stats
    now_ms = await stats.now_ms()
    depth, retries, oldest, dead, points, workers = await asyncio.gather(
        stats.depth(tenant), stats.delayed(tenant), stats.oldest_queued_s(tenant, now_ms),
        stats.dead_letters(tenant, now_ms, service.settings.result_ttl_s),
        stats.hours(tenant, now_ms - 23 * HOUR_MS, now_ms), stats.workers(),
    )  # fmt: skip
    simulated = service.catalog.simulated
    hour_ago = time_of((now_ms // HOUR_MS - 1) * HOUR_MS)
    return (
        Stats(
            at=time_of(now_ms),
            durability=service.store.jobs.durability,
            simulated=simulated,
            depth=depth,
            waiting_retry=retries,
            oldest_queued_s=oldest,
            dead_letters=dead[0],
            oldest_dead_letter_s=dead[1],
            last_hour=_sum(p for p in points if p.at >= hour_ago and p.group.simulated == simulated),
            last_24h=_sum(p for p in points if not p.group.simulated),
            last_24h_simulated=_sum(p for p in points if p.group.simulated),
            hours=[p.point() for p in points],
            fleet=_fleet(workers),
            workers=workers if operator else [],
        )
        .model_dump_json()
        .encode()
    )


def _fleet(workers: Sequence[WorkerInfo]) -> Fleet:
    return Fleet(
        processes=len(workers), running=sum(w.running for w in workers), capacity=sum(w.capacity for w in workers),
        providers=sorted({name for w in workers for name in w.providers}),
    )  # fmt: skip


def _sum(points: Iterable[Rollup]) -> Totals:
    return totals(fields for p in points for fields in p.fields)


def time_of(ms: int) -> datetime:
    """Milliseconds since the epoch as a time."""
    return datetime.fromtimestamp(ms / 1000, UTC)
