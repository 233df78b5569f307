"""What the API does with jobs: admit, read, list, cancel. Workers use engine.py."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, cast

from onceq.wire import TERMINAL, Disposition, Durability, Job, JobPage, Status, SubmittedJob
from onceq_service.store import scripts
from onceq_service.store._pipe import Arg, Pipe
from onceq_service.store.errors import KeyReused
from onceq_service.store.keys import Keys
from onceq_service.store.retention import Retention
from onceq_service.store.views import Fields, fields_of, fold_frames, job_view, submitted

CancelOutcome = Literal["unknown", "cancelled", "requested", "ended"]
STATUSES: tuple[Status, ...] = ("queued", "running", "succeeded", "failed", "cancelled", "expired")


def new_job_id() -> str:
    """`job_` and 32 hex digits that begin with the time (ms), so that ids sort by age; the last 80 bits are random."""
    return f"job_{int(time.time() * 1000):012x}{secrets.token_hex(10)}"


@dataclass(frozen=True, slots=True)
class Admission:
    """One validated request on its way in. `idem`, `fp` and `body_hash` are HMACs; empty where there is none."""

    id: str
    tenant: str
    key_id: str
    request: bytes
    """The request as the worker will read it: JSON of wire.JobRequest."""
    model: str
    """`<provider>/<model id>`, aliases resolved."""
    provider: str
    lane: str
    band: str
    idem: str
    body_hash: str
    fp: str
    window_s: int
    fresh: bool
    deadline_s: float
    max_calls: int
    on_crash: str
    on_break: str
    simulated: bool
    user: str = ""
    team: str = ""
    labels: bytes = b"{}"
    limits: str = ""
    """The lane's limits as `LaneLimits.packed()` writes them; empty where it has none."""
    in_est: int = 0
    out_est: int = 0
    """Tokens that the job is taken to need while it waits for its lane; corrected by what it used."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """What became of it: the job's id, and its fields where it existed before."""

    id: str
    disposition: Disposition
    created_ms: int
    fields: Fields


@dataclass(frozen=True, slots=True)
class Filter:
    """Which jobs to list; None means any."""

    status: Status | None = None
    team: str | None = None
    model: str | None = None
    since: datetime | None = None

    def fits(self, job: Job) -> bool:
        """Whether a job passes what the index can't decide."""
        return self.team in (None, job.team) and self.model in (None, job.model)


class Jobs:
    """The jobs of a queue, as the API sees them."""

    def __init__(self, pipe: Pipe, keys: Keys, retention: Retention) -> None:
        self._pipe, self._keys, self._retention = pipe, keys, retention
        self.durability: Durability = "strict"
        """What a 202 promises; set by whoever inspects the server (Store.inspect)."""

    async def admit(self, a: Admission) -> Admitted:
        """Creates, joins or replays, in one step; raises KeyReused, StoreUnavailable, StoreFull."""
        argv: list[Arg] = [a.id, a.tenant, a.idem, a.body_hash, a.fp, a.window_s, int(a.fresh)]
        argv += [round(a.deadline_s * 1000), self._retention.idempotency_s, a.limits, *_fields(a, self._retention)]
        reply = cast("list[object]", await self._pipe.script(scripts.ADMIT, self._keys.root, argv))
        word, job_id = cast("bytes", reply[0]).decode(), cast("bytes", reply[1]).decode()
        if word == "reused":
            raise KeyReused(job_id)
        created_ms = int(cast("bytes", reply[3]))
        return Admitted(job_id, cast("Disposition", word), created_ms, fields_of(cast("list[bytes]", reply[2])))

    async def submitted(self, admitted: Admitted) -> SubmittedJob:
        """The 202's body. A job that was there before is shown with the text that it has so far."""
        job = await self._view(admitted.id, admitted.fields)
        return submitted(job, admitted.disposition)

    async def get(self, job_id: str, tenant: str) -> Job | None:
        """The job, None when this tenant has none of that id."""
        fields = await self.fields(job_id, tenant)
        return None if fields is None else await self._view(job_id, fields)

    async def fields(self, job_id: str, tenant: str) -> Fields | None:
        """The job's hash as it is, None when this tenant has none of that id."""
        fields = fields_of(cast("list[bytes]", await self._pipe.command("HGETALL", self._keys("job", job_id))))
        return fields if fields.get("tenant") == tenant.encode() else None

    async def cancel(self, job_id: str, tenant: str) -> CancelOutcome:
        """Cancels a waiting job at once; a running one is told to its worker (`requested`)."""
        argv = [job_id, tenant, self._retention.result_s, self._retention.events_s]
        reply = cast("bytes", await self._pipe.script(scripts.CANCEL, self._keys.root, argv))
        return cast("CancelOutcome", reply.decode())

    async def list(self, tenant: str, where: Filter, *, cursor: str | None, limit: int) -> JobPage:
        """Newest first. Bounded work: a page looks at no more than ten times its size; it may be short, not wrong."""
        found: list[Job] = []
        position = _read_cursor(cursor)
        for _ in range(10):
            ids = await self._ids(tenant, where, position, limit)
            for score, job_id in ids:
                position = (score, job_id)
                job = await self.get(job_id, tenant)
                if job is not None and where.fits(job):
                    found.append(job)
                if len(found) == limit:
                    return JobPage(jobs=found, next_cursor=_write_cursor(position))
            if len(ids) < limit:
                return JobPage(jobs=found, next_cursor=None)
        return JobPage(jobs=found, next_cursor=_write_cursor(position))

    async def _ids(
        self, tenant: str, where: Filter, before: tuple[int, str] | None, limit: int
    ) -> Sequence[tuple[int, str]]:
        """The newest ids of the wanted statuses, older than `before`, merged over the indexes."""
        low = str(round(where.since.timestamp() * 1000)) if where.since else "-inf"
        high = str(before[0]) if before else "+inf"
        merged: set[tuple[int, str]] = set()
        for status in (where.status,) if where.status else STATUSES:
            key = self._keys("index", tenant, status)
            skip = 0
            while True:  # ids of one millisecond share a score: read on until the page is past the cursor
                args = (key, high, low, "BYSCORE", "REV", "LIMIT", skip, limit + 1, "WITHSCORES")
                flat = cast("list[bytes]", await self._pipe.command("ZRANGE", *args))
                rows = [(int(float(flat[n + 1])), flat[n].decode()) for n in range(0, len(flat), 2)]
                fresh = [row for row in rows if before is None or row < before]
                merged.update(fresh)
                if len(fresh) >= limit or len(rows) <= limit:
                    break
                skip += len(rows)
        return sorted(merged, reverse=True)[:limit]

    async def _view(self, job_id: str, fields: Fields) -> Job:
        partial = None
        if "output" not in fields and "first_ms" in fields:
            partial = fold_frames(await self._frames(job_id))
        return job_view(job_id, fields, self.durability, partial)

    async def _frames(self, job_id: str) -> list[bytes]:
        entries = await self._pipe.command("XRANGE", self._keys("events", job_id), "-", "+")
        return [entry[1][1] for entry in cast("list[tuple[bytes, list[bytes]]]", entries)]


def ended(fields: Fields) -> bool:
    """Whether the job has reached its end."""
    return fields["state"].decode() in TERMINAL


def _fields(a: Admission, retention: Retention) -> list[Arg]:
    pairs: dict[str, Arg] = {
        "key_id": a.key_id, "request": a.request, "model": a.model, "provider": a.provider, "lane": a.lane,
        "band": a.band, "simulated": int(a.simulated), "max_calls": a.max_calls, "on_crash": a.on_crash,
        "on_break": a.on_break, "user": a.user, "team": a.team, "labels": a.labels,
        "result_ttl_s": retention.result_s, "in_est": a.in_est or "", "out_est": a.out_est or "",
    }  # fmt: skip
    return [x for pair in pairs.items() if pair[1] != "" for x in pair]


def _read_cursor(cursor: str | None) -> tuple[int, str] | None:
    if cursor is None:
        return None
    score, _, job_id = cursor.partition("-")
    if not score.isdigit() or not job_id:
        raise ValueError("cursor is not one that a page gave")
    return int(score), job_id


def _write_cursor(position: tuple[int, str] | None) -> str | None:
    return None if position is None else f"{position[0]}-{position[1]}"
