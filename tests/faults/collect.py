"""What is left when a run is over: read through the store's own public face, and from the provider's meter."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import httpx2
import msgspec

from onceq.wire import TERMINAL, BudgetStatus, Job, LedgerEntry, Totals
from onceq_service.store import Filter, Store
from onceq_service.store.budgets import unpacked
from onceq_service.store.errors import StoreUnavailable
from onceq_service.store.stats import ledger_rows, totals
from onceq_service.store.views import Fields
from tests.faults.deployment import Deployment
from tests.faults.history import Record
from tests.faults.run import Expect, LogEvent, Row, Run, parse_frame
from tests.waiting import until

END_S = 60.0


async def collect(
    deployment: Deployment, store: Store, tenant: str, history: list[Record], expect: Expect,
    watched: Sequence[BudgetStatus] = (),
) -> Run:  # fmt: skip
    """Waits until no job of the tenant is going on (at most END_S), then reads everything."""
    await _settled(store, tenant)
    listed = await _listed(store, tenant, None)
    ids = {r.job for r in history if r.op == "post" and r.kind == "ok"} | set(listed)
    jobs: dict[str, Job] = {}
    ledger: dict[str, list[LedgerEntry]] = {}
    logs: dict[str, list[LogEvent]] = {}
    for job_id in ids:
        job, fields = await store.jobs.get(job_id, tenant), await store.jobs.fields(job_id, tenant)
        if job is not None and fields is not None:
            jobs[job_id], ledger[job_id] = job, ledger_rows(fields)
            logs[job_id] = await _log(store, job) if job.status in TERMINAL else []
    depth, sums, meter = (
        await store.stats.depth(tenant),
        await _totals(store, tenant),
        await meter_rows(deployment, ids),
    )
    return Run(
        history=history, listed=frozenset(listed), jobs=jobs, logs=logs, ledger=ledger, meter=meter,
        depth=depth, totals=sums, expect=expect, budgets=await budgets_of(store, tenant), watched=watched,
        pauses=deployment.watch.pauses(since=history[0].t if history else 0.0),
    )  # fmt: skip


async def budgets_of(store: Store, tenant: str) -> list[BudgetStatus]:
    """The tenant's budgets as they stand."""
    found = [unpacked(value) for value in (await store.budgets.made()).values()]
    mine = [budget for budget in found if budget.tenant == tenant]
    return await store.budgets.status(mine, await store.stats.now_ms())


async def running_jobs(store: Store, tenant: str) -> dict[str, Fields]:
    """The hashes of the tenant's running jobs, by id; all at once, since what they do next doesn't wait."""
    ids = await _listed(store, tenant, "running")
    hashes = await asyncio.gather(*(store.jobs.fields(job_id, tenant) for job_id in ids))
    return {i: fields for i, fields in zip(ids, hashes, strict=True) if fields and fields["state"] == b"running"}


async def _settled(store: Store, tenant: str) -> None:
    end = time.monotonic() + END_S

    async def look() -> bool:
        try:
            depth = await store.stats.depth(tenant)
        except StoreUnavailable:
            return False
        return depth.queued + depth.running == 0 or time.monotonic() > end  # the checker says what still runs

    await until(look, "the run to end", timeout_s=END_S + 10)


async def _listed(store: Store, tenant: str, status: Any) -> list[str]:
    ids: list[str] = []
    cursor: str | None = None
    while True:
        page = await store.jobs.list(tenant, Filter(status=status), cursor=cursor, limit=200)
        ids += [job.id for job in page.jobs]
        cursor = page.next_cursor
        if cursor is None:
            return ids


async def _log(store: Store, job: Job) -> list[LogEvent]:
    data = b"".join([chunk async for chunk in store.events.follow(job.id, 0)])
    return [parse_frame(frame.decode() + "\n\n") for frame in data.split(b"\n\n") if frame]


async def meter_rows(deployment: Deployment, ids: set[str]) -> list[Row]:
    """What the provider has counted for these jobs."""
    async with httpx2.AsyncClient(trust_env=False, timeout=30) as http:
        reply = await http.get(f"{deployment.simulator}/meter", params={"refused": "1", "text": "1"})
    rows = msgspec.convert(reply.json()["calls"], list[Row], strict=False)
    return [row for row in rows if row.job in ids]


async def _totals(store: Store, tenant: str) -> Totals:
    now = await store.stats.now_ms()
    return totals([f for hour in await store.stats.hours(tenant, now - 3_600_000, now) for f in hour.fields])
