"""Depth, rollups and ledger rows, read for a tenant: bounded work, never a scan of jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import cast

import msgspec

from onceq.wire import Band, CostPoint, Depth, LedgerEntry, Quantiles, Totals, WorkerInfo
from onceq_service.store._pipe import Pipe
from onceq_service.store.jobs import STATUSES
from onceq_service.store.keys import Keys
from onceq_service.store.views import Fields, at, fields_of

HOUR_MS = 3_600_000
BUCKETS = 96
_NAMES = {
    "jobs": "jobs", "joined": "joined", "replayed": "replayed", "succeeded": "succeeded", "failed": "failed",
    "cancelled": "cancelled", "expired": "expired", "calls": "calls", "tries": "tries", "retries": "retries",
    "in": "input_tokens", "out": "output_tokens", "cached": "cached_tokens", "reasoning": "reasoning_tokens",
    "spent": "spent_nano_usd", "wasted": "wasted_nano_usd", "unpriced": "unpriced_calls",
}  # fmt: skip


def edge_s(bucket: int) -> float:
    """Lower edge of a histogram's bucket in seconds: a quarter of an octave each, as `bucket` in lua/_money.lua."""
    return (2 ** (bucket / 4) - 1) / 1000


def quantile(counts: Sequence[int], q: float) -> float | None:
    """The q-quantile of a histogram in seconds, interpolated within its bucket; None when it is empty."""
    rank, seen = q * sum(counts), 0
    for n, count in enumerate(counts):
        if count and seen + count >= rank:
            low, high = edge_s(n), edge_s(n + 1)
            return round(low + (high - low) * max(0.0, rank - seen) / count, 4)
        seen += count
    return None


def totals(sums: Iterable[Fields]) -> Totals:
    """Rollup hashes added up."""
    added: dict[str, int] = {}
    for fields in sums:
        for name, value in fields.items():
            added[name] = added.get(name, 0) + int(value)
    named = {ours: added.get(theirs, 0) for theirs, ours in _NAMES.items()}
    jobs = named["jobs"]
    return Totals.model_validate(
        named
        | {
            "bill_amplification": round(named["calls"] / jobs, 4) if jobs else None,
            "causes": {name[2:]: count for name, count in sorted(added.items()) if name.startswith("e:")},
            "ttft": _quantiles(added, "t"),
            "total": _quantiles(added, "d"),
        }
    )


def _quantiles(added: dict[str, int], prefix: str) -> Quantiles:
    counts = [added.get(f"{prefix}{n}", 0) for n in range(BUCKETS)]
    return Quantiles(p50=quantile(counts, 0.5), p95=quantile(counts, 0.95), count=sum(counts))


class Sums:
    """Reads what the scripts summed up."""

    def __init__(self, pipe: Pipe, keys: Keys) -> None:
        self._pipe, self._keys = pipe, keys

    async def now_ms(self) -> int:
        """Redis's time."""
        seconds, micros = cast("list[bytes]", await self._pipe.command("TIME"))
        return int(seconds) * 1000 + int(micros) // 1000

    async def depth(self, tenant: str) -> Depth:
        """How many jobs of the tenant are in each state."""
        counts = await asyncio.gather(
            *(self._pipe.command("ZCARD", self._keys("index", tenant, status)) for status in STATUSES)
        )
        return Depth.model_validate(dict(zip(STATUSES, counts, strict=True)))

    async def queued_by_band(self) -> dict[str, int]:
        """Queued jobs by band over all tenants."""
        fields = fields_of(await self._pipe.command("HGETALL", self._keys("totals")))
        return {band: int(n) for band, n in fields.items()}

    async def running(self) -> int:
        """Running jobs over all tenants."""
        return int(await self._pipe.command("ZCARD", self._keys("leases")))

    async def delayed(self, tenant: str | None = None) -> int:
        """Queued jobs, of a tenant or of all, that wait for a time: a retry's, or their own not-before."""
        due = self._keys("due")
        if tenant is None:
            return int(await self._pipe.command("ZCARD", due))
        return int(await self._pipe.command("ZINTERCARD", 2, due, self._keys("index", tenant, "queued")))

    async def oldest_queued_s(self, tenant: str, now_ms: int) -> float | None:
        """Age of the tenant's oldest queued job; None when none waits."""
        row = cast("list[bytes]", await self._pipe.command(
            "ZRANGE", self._keys("index", tenant, "queued"), 0, 0, "WITHSCORES"
        ))  # fmt: skip
        return None if not row else max(0.0, (now_ms - float(row[1])) / 1000)

    async def dead_letters(self, tenant: str, now_ms: int, result_ttl_s: int) -> tuple[int, float | None]:
        """Failed jobs that nobody replayed and whose results are still there: how many, and the oldest one's age."""
        key, since = self._keys("dead", tenant), now_ms - result_ttl_s * 1000
        count, oldest = await asyncio.gather(
            self._pipe.command("ZCOUNT", key, since, "+inf"),
            self._pipe.command("ZRANGE", key, since, "+inf", "BYSCORE", "LIMIT", 0, 1, "WITHSCORES"),
        )
        row = cast("list[bytes]", oldest)
        return int(cast("int", count)), max(0.0, (now_ms - float(row[1])) / 1000) if row else None

    async def hours(self, tenant: str, since_ms: int, until_ms: int) -> list[tuple[CostPoint, Fields]]:
        """One point an hour and group (team, model, band, simulated), oldest first, each with its raw sums."""
        hours = range(since_ms // HOUR_MS, until_ms // HOUR_MS + 1)
        groups = await asyncio.gather(*(self._groups(tenant, hour) for hour in hours))
        wanted = [(hour, dim) for hour, dims in zip(hours, groups, strict=True) for dim in dims]
        sums = await asyncio.gather(*(self._sums(tenant, hour, dim) for hour, dim in wanted))
        return [(_point(hour, dim, fields), fields) for (hour, dim), fields in zip(wanted, sums, strict=True)]

    async def _groups(self, tenant: str, hour: int) -> list[bytes]:
        """The dimensions that have sums in an hour."""
        return sorted(cast("list[bytes]", await self._pipe.command("SMEMBERS", self._keys("rolls", "h", hour, tenant))))

    async def _sums(self, tenant: str, hour: int, dim: bytes) -> Fields:
        return fields_of(await self._pipe.command("HGETALL", self._keys("roll", "h", hour, tenant, dim.decode())))

    async def workers(self) -> list[WorkerInfo]:
        """Live worker processes."""
        ids = cast("list[bytes]", await self._pipe.command("ZRANGE", self._keys("workers"), 0, 999, "WITHSCORES"))
        infos = await asyncio.gather(*(self._pipe.command("GET", self._keys("worker", i.decode())) for i in ids[::2]))
        return [
            WorkerInfo.model_validate(msgspec.json.decode(cast("bytes", info)) | {"seen_at": at(int(float(score)))})
            for info, score in zip(infos, ids[1::2], strict=True)
            if info is not None
        ]


def _point(hour: int, dim: bytes, fields: Fields) -> CostPoint:
    team, model, band, simulated = cast("list[str]", msgspec.json.decode(dim))
    when = datetime.fromtimestamp(hour * 3600, UTC)
    return CostPoint(
        at=when, team=team, model=model, band=cast("Band", band), simulated=simulated == "1", totals=totals([fields])
    )


def ledger_rows(fields: Fields) -> list[LedgerEntry]:
    """A job's ledger rows, from its hash, in the order of its tries."""
    rows = [cast("dict[str, str]", msgspec.json.decode(v)) for k, v in fields.items() if k.startswith("row:")]
    return [_entry(row) for row in sorted(rows, key=lambda r: int(r["try_no"]))]


def _entry(r: dict[str, str]) -> LedgerEntry:
    return LedgerEntry(
        at=cast("datetime", at(int(r["at"]))), job=r["job"], try_no=int(r["try_no"]), call=int(r["call"]),
        model=r["model"], outcome=r["outcome"], billed=r["billed"] == "1", estimated=r["estimated"] == "1",
        input_tokens=int(r["input"]), output_tokens=int(r["output"]), cached_tokens=int(r["cached"]),
        reasoning_tokens=int(r["reasoning"]), spent_nano_usd=int(r["spent"]) if r["spent"] else None,
        wasted_nano_usd=int(r["wasted"]), waste_reason=r["reason"] or None, price_version=r["price_version"],
        simulated=r["simulated"] == "1",
    )  # fmt: skip
