"""Depth, rollups and ledger rows, read for a tenant: bounded work, never a scan of jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, cast

import msgspec

from onceq.wire import PHASES, VERDICTS, CostPoint, Depth, LedgerEntry, Quantiles, Totals, WorkerInfo
from onceq_service.store._pipe import Pipe
from onceq_service.store.find import STATUSES
from onceq_service.store.keys import Keys
from onceq_service.store.views import Fields, at, fields_of

HOUR_MS = 3_600_000
Span = Literal["h", "d"]
SPAN_MS: Final[dict[Span, int]] = {"h": HOUR_MS, "d": 24 * HOUR_MS}
Dimension = Literal["team", "model", "provider", "band", "key", "labels"]
BUCKETS = 96
AT_ONCE: Final = 100
"""Sums that are read together."""
_NAMES = {
    "jobs": "jobs", "joined": "joined", "replayed": "replayed", "succeeded": "succeeded", "failed": "failed",
    "cancelled": "cancelled", "expired": "expired", "calls": "calls", "tries": "tries", "retries": "retries",
    "in": "input_tokens", "out": "output_tokens", "cached": "cached_tokens", "cwrite": "cache_write_tokens",
    "reasoning": "reasoning_tokens",
    "spent": "spent_nano_usd", "wasted": "wasted_nano_usd", "avoided": "avoided_nano_usd", "est": "estimated_nano_usd",
    "unpriced": "unpriced_calls",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Group:
    """What a sum is about: dimensions by name in the order asked for, and labels."""

    simulated: bool
    names: tuple[tuple[str, str], ...]
    labels: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Rollup:
    """The rollups of one group in one hour or day."""

    at: datetime
    group: Group
    fields: list[Fields]

    def point(self) -> CostPoint:
        """The sums as clients see them."""
        values = dict(self.group.names) | {"labels": dict(self.group.labels), "simulated": self.group.simulated}
        return CostPoint.model_validate({"at": self.at, "totals": totals(self.fields)} | values)


def edge_s(bucket: int) -> float:
    """Lower edge of a histogram's bucket in seconds: a quarter of an octave each, as `bucket` in lua/_money.lua."""
    return (2 ** (bucket / 4) - 1) / 1000


def edge_nano_usd(bucket: int) -> int:
    """Lower edge of a histogram's bucket of money in nano-USD; the buckets are of micro-USD."""
    return round((2 ** (bucket / 4) - 1) * 1000)


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
            "wasted_by_reason": {name[2:]: nano for name, nano in sorted(added.items()) if name.startswith("w:")},
            "verdicts": {who: added[f"v:{who}"] for who in VERDICTS if added.get(f"v:{who}")},
            "phases": {phase: added.get(f"p:{phase}", 0) / 1000 for phase in PHASES},
            "ttft": _quantiles(added, "t"),
            "total": _quantiles(added, "d"),
            "job_costs": {edge_nano_usd(n + 1): added[f"c{n}"] for n in range(BUCKETS) if added.get(f"c{n}")},
        }
    )


def _quantiles(added: dict[str, int], prefix: str) -> Quantiles:
    counts = [added.get(f"{prefix}{n}", 0) for n in range(BUCKETS)]
    return Quantiles(p50=quantile(counts, 0.5), p95=quantile(counts, 0.95), count=sum(counts))


class Stats:
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

    async def hours(self, tenant: str, since_ms: int, until_ms: int) -> list[Rollup]:
        """One sum an hour and (team, model, band, simulated), oldest first."""
        return await self.spans(tenant, "h", since_ms, until_ms, ("team", "model", "band"))

    async def models(self, tenant: str, since_ms: int, until_ms: int) -> set[str]:
        """The models that jobs of the tenant were for, on the days (UTC) from the first time to the second."""
        days = range(since_ms // SPAN_MS["d"], until_ms // SPAN_MS["d"] + 1)
        groups = await asyncio.gather(*(self._groups(tenant, "d", day) for day in days))
        return {group_of(dims, ("model",)).names[0][1] for found in groups for dims in found}

    async def spans(
        self, tenant: str, span: Span, since_ms: int, until_ms: int, by: Sequence[Dimension]
    ) -> list[Rollup]:
        """One sum an hour or day and group, oldest first; simulated work is always apart."""
        buckets = range(since_ms // SPAN_MS[span], until_ms // SPAN_MS[span] + 1)
        groups = await asyncio.gather(*(self._groups(tenant, span, bucket) for bucket in buckets))
        wanted = [(bucket, dims) for bucket, found in zip(buckets, groups, strict=True) for dims in found]
        sums: list[Fields] = []
        for n in range(0, len(wanted), AT_ONCE):  # others have their turn between two reads
            part = wanted[n : n + AT_ONCE]
            sums += await asyncio.gather(*(self._sums(tenant, span, bucket, dims) for bucket, dims in part))
        merged: dict[tuple[int, Group], list[Fields]] = {}
        for (bucket, dims), fields in zip(wanted, sums, strict=True):
            merged.setdefault((bucket, group_of(dims, by)), []).append(fields)
        return [Rollup(time_of(bucket, span), group, fields) for (bucket, group), fields in merged.items()]

    async def _groups(self, tenant: str, span: Span, bucket: int) -> list[bytes]:
        """The dimensions that have sums in an hour or day."""
        key = self._keys("rolls", span, bucket, tenant)
        return sorted(cast("list[bytes]", await self._pipe.command("SMEMBERS", key)))

    async def _sums(self, tenant: str, span: Span, bucket: int, dims: bytes) -> Fields:
        return fields_of(await self._pipe.command("HGETALL", self._keys("roll", span, bucket, tenant, dims.decode())))

    async def workers(self) -> list[WorkerInfo]:
        """Live worker processes."""
        ids = cast("list[bytes]", await self._pipe.command("ZRANGE", self._keys("workers"), 0, 999, "WITHSCORES"))
        infos = await asyncio.gather(*(self._pipe.command("GET", self._keys("worker", i.decode())) for i in ids[::2]))
        return [
            WorkerInfo.model_validate(msgspec.json.decode(cast("bytes", info)) | {"seen_at": at(int(float(score)))})
            for info, score in zip(infos, ids[1::2], strict=True)
            if info is not None
        ]


def time_of(bucket: int, span: Span) -> datetime:
    """When an hour or a day (UTC) begins."""
    return datetime.fromtimestamp(bucket * SPAN_MS[span] / 1000, UTC)


def group_of(dims: bytes, by: Sequence[Dimension]) -> Group:
    """The group of a rollup's dimensions, as `roll_into` in lua/_money.lua writes them."""
    team, model, band, simulated, key, labels = cast("list[str]", msgspec.json.decode(dims))
    named = {"team": team, "model": model, "provider": model.partition("/")[0], "band": band, "key": key}
    chosen = {name: named[name] for name in by if name in named}
    tags = cast("dict[str, str]", msgspec.json.decode(labels)) if labels and "labels" in by else {}
    return Group(simulated == "1", tuple(chosen.items()), tuple(sorted(tags.items())))


def ledger_rows(fields: Fields) -> list[LedgerEntry]:
    """A job's ledger rows, from its hash, in the order of its tries; what corrects one comes behind it."""
    rows = [cast("dict[str, str]", msgspec.json.decode(v)) for k, v in fields.items() if k.startswith("row:")]
    return [entry_of(row) for row in sorted(rows, key=lambda r: (int(r["try_no"]), int(r["at"]), r["billed"] == "0"))]


def entry_of(r: dict[str, str]) -> LedgerEntry:
    """A ledger row, as `book` in lua/_money.lua writes it."""
    return LedgerEntry(
        at=cast("datetime", at(int(r["at"]))), job=r["job"], try_no=int(r["try_no"]), call=int(r["call"]),
        model=r["model"], outcome=r["outcome"], billed=r["billed"] == "1", estimated=r["estimated"] == "1",
        input_tokens=int(r["input"]), output_tokens=int(r["output"]), cached_tokens=int(r["cached"]),
        reasoning_tokens=int(r["reasoning"]), spent_nano_usd=int(r["spent"]) if r["spent"] else None,
        wasted_nano_usd=int(r["wasted"]), waste_reason=r["reason"] or None, price_version=r["price_version"],
        simulated=r["simulated"] == "1", id=r.get("id", ""), team=r.get("team", ""), key=r.get("key_id", ""),
        user=r.get("user", ""), labels=cast("dict[str, str]", msgspec.json.decode(r.get("labels") or "{}")),
        band=r.get("band", ""), cache_write_tokens=int(r.get("cache_write", 0)),
        reserved_nano_usd=int(r.get("reserved", 0)),
    )  # fmt: skip
