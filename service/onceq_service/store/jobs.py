"""What the API does with jobs: admit, read, list, cancel. Workers use engine.py."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import msgspec

from onceq.wire import TERMINAL, Disposition, Durability, Job, JobPage, SubmittedJob, Waiting
from onceq_service.store import scripts
from onceq_service.store._admissions import Admissions
from onceq_service.store._pipe import Arg, Pipe
from onceq_service.store.errors import BudgetRefused, CostTooHigh, KeyReused, NotThere, StoreError
from onceq_service.store.find import Filter, find, read_cursor, write_cursor
from onceq_service.store.keys import Keys
from onceq_service.store.retention import Retention
from onceq_service.store.views import SHOWN, Fields, at, fields_of, fold_frames, job_view, submitted

CancelOutcome = Literal["unknown", "cancelled", "requested", "ended"]


_NO_BUDGET = ("over_budget", "unbounded", "stale")
UNKNOWN_MS = 10**15
"""A lane is put aside until this when nobody can know the time, as `closed_until` in lua/_lanes.lua says it."""


def new_job_id() -> str:
    """`job_` and 32 hex digits that begin with the time (ms), so that ids sort by age; the last 80 bits are random."""
    return f"job_{int(time.time() * 1000):012x}{secrets.token_hex(10)}"


class Admission(msgspec.Struct, frozen=True, kw_only=True):
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
    chain: Sequence[tuple[str, str]] = ()
    """Models that may answer instead, in order, each with its lane's limits."""
    not_before_ms: int | None = None
    """When it may start at the earliest, ms since the epoch."""
    queue_s: float | None = None
    """How long it may wait for its first start."""
    grace_s: float | None = None
    """How long it goes on without anybody who follows it; None: for ever."""
    group: bytes = b""
    """Labels that costs are summed by, as JSON."""
    retry_of: str = ""
    """The job that this one replays."""
    traceparent: str = ""
    """Where its trace goes on, as W3C writes it; empty without tracing."""
    max_cost: int | None = None
    """nano-USD that all of its calls together may cost."""
    call_bound: int | None = None
    """nano-USD that no call of any of its models can pass; None where there is no such bound."""
    batch: str = ""
    """The batch that it is followed in."""
    create: bool = True
    """Whether a job may be made where none is there."""
    budgets: str = ""
    """The budgets that it falls under, as `budgets.line` writes each, a line a budget."""
    reserved: int = 0
    """The most that one of them will hold for it, nano-USD; the scripts work it out on their own."""
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


class Jobs:
    """The jobs of a queue, as the API sees them."""

    def __init__(self, pipe: Pipe, keys: Keys, retention: Retention, admissions: Admissions | None = None) -> None:
        self._pipe, self._keys, self._retention = pipe, keys, retention
        self._admissions = admissions or Admissions(pipe, keys.root, retention.idempotency_s)
        self.durability: Durability = "strict"
        """What a 202 promises; set by whoever inspects the server (Store.inspect)."""

    async def admit(self, a: Admission, *, read_at: float | None = None, accept_ms: int = 0) -> Admitted:
        """Creates, joins or replays, in one step.

        Raises KeyReused, CostTooHigh, BudgetRefused, NotThere, StoreError and its kinds.

        `read_at`: when the request had been read (time.monotonic); the job's life begins there. `accept_ms`: how long
        before now that was, for a caller whose clock is not this machine's.
        """
        return admitted(await self.admission(a, read_at, accept_ms))

    def admission(self, a: Admission, read_at: float | None, accept_ms: int = 0) -> asyncio.Future[list[object]]:
        """The same for a caller that waits by itself: what it gives is for `admitted`."""
        if read_at is not None:
            accept_ms = max(0, round((time.monotonic() - read_at) * 1000))
        return self._admissions.put([
            a.id, a.tenant, a.idem, a.body_hash, a.fp, a.window_s, int(a.fresh), round(a.deadline_s * 1000),
            accept_ms, _limits(a), a.batch, int(a.create), *_fields(a, self._retention),
        ])  # fmt: skip

    async def submitted(self, admitted: Admitted) -> SubmittedJob:
        """The 202's body. A job that was there before is shown with the text that it has so far."""
        job = await self.view(admitted.id, admitted.fields)
        return submitted(job, admitted.disposition)

    async def get(self, job_id: str, tenant: str) -> Job | None:
        """The job, None when this tenant has none of that id."""
        fields = await self.shown(job_id, tenant)
        return None if fields is None else await self.view(job_id, fields)

    async def shown(self, job_id: str, tenant: str) -> Fields | None:
        """Those fields of the job's hash that `view` needs, None when this tenant has no job of that id."""
        values = await self._pipe.command("HMGET", self._keys("job", job_id), *SHOWN)
        named = zip(SHOWN, cast("list[bytes | None]", values), strict=True)
        fields = {name: value for name, value in named if value is not None}
        return fields if fields.get("tenant") == tenant.encode() else None

    async def fields(self, job_id: str, tenant: str) -> Fields | None:
        """The job's whole hash, with its request and ledger rows, None when this tenant has none of that id."""
        fields = fields_of(cast("list[bytes]", await self._pipe.command("HGETALL", self._keys("job", job_id))))
        return fields if fields.get("tenant") == tenant.encode() else None

    async def cancel(self, job_id: str, tenant: str) -> CancelOutcome:
        """Cancels a waiting job at once; `requested` where a worker has to end it, since its call runs or goes on."""
        argv = [job_id, tenant, self._retention.result_s, self._retention.events_s]
        reply = cast("bytes", await self._pipe.script(scripts.CANCEL, self._keys.root, argv))
        return cast("CancelOutcome", reply.decode())

    async def watch(self, job_id: str) -> None:
        """Says that somebody follows the job now: `on_disconnect: cancel` waits for its grace from here."""
        await self._pipe.script(scripts.WATCH, self._keys.root, [job_id])

    async def stuck(self, job_id: str, blocked_s: float) -> None:
        """Says how long a reader of the job has kept its stream waiting; a job that has ended takes no notice."""
        await self._pipe.script(scripts.STUCK, self._keys.root, [job_id, round(blocked_s * 1000)])

    async def list(self, tenant: str, where: Filter, *, cursor: str | None, limit: int) -> JobPage:
        """Newest first; raises ValueError for a cursor that no page gave. Bounded work: see find.py."""
        found = await find(self._pipe, self._keys, tenant, where, read_cursor(cursor), limit)
        jobs = await asyncio.gather(*(self.get(job_id, tenant) for job_id in found.ids))
        return JobPage(
            jobs=[job for job in jobs if job is not None],
            next_cursor=write_cursor(found.position) if found.more else None,
            looked_at=found.looked,
            looked_back_to=at(found.position[0]) if found.position else None,
        )

    async def view(self, job_id: str, fields: Fields) -> Job:
        """The job that these fields are of, with the text that it has so far."""
        partial = None
        if "output" not in fields and "first_ms" in fields:
            partial = fold_frames(await self._frames(job_id))
        job = job_view(job_id, fields, self.durability, partial)
        if job.status != "queued" or job.waiting is not None or job.cancel_requested:
            return job
        return job.model_copy(update={"waiting": await self._held_by_lane(fields)})

    async def _held_by_lane(self, fields: Fields) -> Waiting | None:
        lane, band = fields["lane"].decode(), fields["band"].decode()
        paused, brake_ms, reason = cast("list[bytes | None]", await self._pipe.command(
            "HMGET", self._keys("lane", lane), "paused", "brake_ms", "reason"
        ))  # fmt: skip
        blocked = cast("bytes | None", await self._pipe.command("ZSCORE", self._keys("blocked"), f"{band}|{lane}"))
        return lane_waiting(paused, brake_ms, reason, blocked)

    async def _frames(self, job_id: str) -> list[bytes]:
        entries = await self._pipe.command("XRANGE", self._keys("events", job_id), "-", "+")
        return [entry[1][1] for entry in cast("list[tuple[bytes, list[bytes]]]", entries)]


def lane_waiting(
    paused: bytes | None, brake_ms: bytes | None, reason: bytes | None, blocked: bytes | None
) -> Waiting | None:
    """Why a lane starts nothing now, from its hash and the time (ms) for which it is put aside; None when it may."""
    if paused is not None:
        return Waiting(reason="lane_paused")
    if brake_ms is not None and int(brake_ms) > time.time() * 1000:
        return Waiting(reason=(reason or b"lane_braked").decode(), until=at(int(brake_ms)))
    if blocked is None:
        return None
    till = int(float(blocked))
    return Waiting(reason="lane_full", until=at(till) if till < UNKNOWN_MS else None)


def admitted(reply: Sequence[object]) -> Admitted:
    """What `admit.lua` answered; raises KeyReused, CostTooHigh, NotThere, BudgetRefused, StoreError."""
    word, job_id = cast("bytes", reply[0]).decode(), cast("bytes", reply[1]).decode()
    if word == "reused":
        raise KeyReused(job_id)
    if word == "max_cost":
        raise CostTooHigh("a call may cost more than max_cost_usd allows")
    if word == "absent":
        raise NotThere("no job with this key or question is there, and none was to be made")
    if word == "error":
        raise StoreError(f"Redis refused job {job_id}: {fields_of(cast('list[bytes]', reply[2]))['why'].decode()}")
    if word in _NO_BUDGET:
        raise BudgetRefused(word, fields_of(cast("list[bytes]", reply[2])))
    created_ms = int(cast("bytes", reply[3]))
    return Admitted(job_id, cast("Disposition", word), created_ms, fields_of(cast("list[bytes]", reply[2])))


def ended(fields: Fields) -> bool:
    """Whether the job has reached its end."""
    return fields["state"].decode() in TERMINAL


def _limits(a: Admission) -> str:
    own = f"{a.lane}={a.limits}"
    return " ".join([own, *(f"{lane}={limits}" for lane, limits in a.chain)]) if a.chain else own


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


def _fields(a: Admission, retention: Retention) -> list[Arg]:
    """Without those whose absence says the same: each costs Redis half a microsecond and 50 bytes."""
    always: list[Arg] = [
        "key_id", a.key_id, "request", a.request, "model", a.model, "provider", a.provider, "lane", a.lane,
        "band", a.band, "max_calls", a.max_calls, "on_crash", a.on_crash, "result_ttl_s", retention.result_s,
    ]  # fmt: skip
    some: tuple[tuple[str, Arg | None], ...] = (
        ("simulated", 1 if a.simulated else None), ("on_break", None if a.on_break == "retry" else a.on_break),
        ("user", a.user), ("team", a.team), ("labels", None if a.labels == b"{}" else a.labels),
        ("in_est", a.in_est), ("out_est", a.out_est), ("retry_of", a.retry_of), ("group", a.group),
        ("chain", " ".join([model for model, _ in a.chain]) if a.chain else None),
        ("not_before_ms", a.not_before_ms), ("traceparent", a.traceparent), ("budgets", a.budgets),
    )  # fmt: skip
    for name, value in some:
        if value:
            always += (name, value)
    numbers = (
        ("queue_ms", _ms(a.queue_s)), ("grace_ms", _ms(a.grace_s)),
        ("max_cost", a.max_cost), ("call_bound", a.call_bound),
    )  # fmt: skip
    for name, amount in numbers:
        if amount is not None:
            always += (name, amount)
    return always
