"""The promise in plain Python: what every script must answer, and what it must leave behind. No Redis, no clock.

One tenant, one lane, three bands. tests/faults/test_model.py drives it beside the real scripts and compares.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from onceq_service.store.engine import CallPrices, End, Receipt

LIVE, DISPATCHED = ("queued", "running"), ("dispatched", "streaming")
OUTAGE_MS = 2000
POISON_AT, SUSPECT_AT = 6, 2
BOUND, LIMIT = 150_000, 700_000
"""What a call may cost at most, and what the budget has, nano-USD: room for four calls at once."""
AGED_MS = {"standard": 60_000, "batch": 600_000}


@dataclass(frozen=True)
class Event:
    """One event of a log; `data` without job, seq and call."""

    name: str
    call: int
    data: dict[str, Any]


@dataclass(frozen=True)
class LedgerRow:
    """One try as it is booked; `spent` None: not priced."""

    try_no: int
    call: int
    outcome: str
    billed: bool
    estimated: bool
    input_tokens: int
    output_tokens: int
    spent: int | None
    wasted: int
    reason: str
    reserved: int = 0


@dataclass
class Budget:
    """A hard one that never renews. `unsure`: what calls that nobody reported may have cost above their estimates."""

    spent: int = 0
    reserved: int = 0
    unsure: int = 0

    @property
    def left(self) -> int:
        return LIMIT - self.spent - self.reserved - self.unsure


@dataclass
class ModelJob:
    """What is known of a job. Times are ms."""

    id: str
    band: str
    idem: str
    body: str
    fp: str
    max_calls: int
    on_crash: str
    created: int
    deadline: int
    budget: bool = False
    held: int = 0
    waits: int = 0
    state: str = "queued"
    phase: str = ""
    fence: str = ""
    worker: str = ""
    lease: int = 0
    calls: int = 0
    call: int = 0
    tries: int = 0
    crashes: int = 0
    spent: int = 0
    wasted: int = 0
    in_bytes: int = 0
    out_bytes: int = 0
    cancelled: bool = False
    dirty: bool = False
    not_before: int = 0
    claimed_at: int | None = None
    first_at: int | None = None
    requeued_by: str = ""
    ended_by: str = ""
    log: list[Event] = field(default_factory=list[Event])
    ledger: list[LedgerRow] = field(default_factory=list[LedgerRow])

    @property
    def seq(self) -> int:
        return len(self.log)

    @property
    def ended(self) -> bool:
        return self.state not in LIVE

    @property
    def stopping(self) -> bool:
        """Whether somebody has yet to end it, since it was cancelled."""
        return self.cancelled and not self.ended

    def emit(self, name: str, call: int, **data: Any) -> None:
        self.log.append(Event(name, call, data))


@dataclass
class Model:
    """The queue: jobs in order of their age, the clock, the turns, and since when Redis is known to live."""

    lease_ms: int
    prices: CallPrices
    now: int = 1_800_000_000_000
    jobs: dict[str, ModelJob] = field(default_factory=dict[str, ModelJob])
    idem: dict[str, str] = field(default_factory=dict[str, str])
    bodies: dict[str, str] = field(default_factory=dict[str, str])
    fps: dict[str, str] = field(default_factory=dict[str, str])
    turn: int = 0
    budget: Budget = field(default_factory=Budget)
    looked: tuple[int, int] | None = None
    quarantine: str = ""
    _claims: dict[str, tuple[int, list[tuple[str, int]]]] = field(
        default_factory=dict[str, tuple[int, list[tuple[str, int]]]]
    )

    def admit(self, new: ModelJob) -> tuple[str, str]:
        """(disposition, 'reused' or 'over_budget', job id)."""
        if new.id in self.jobs:
            return "created", new.id
        if new.idem in self.idem:
            known = self.jobs[self.idem[new.idem]]
            return ("reused" if self.bodies[new.idem] != new.body else _again(known)), known.id
        if new.fp in self.fps and not self.jobs[self.fps[new.fp]].stopping:
            known = self.jobs[self.fps[new.fp]]
            self._remember(new.idem, new.body, known.id)
            return _again(known), known.id
        if new.budget and self.budget.left < BOUND:
            return "over_budget", new.id
        self._hold(new)
        self.jobs[new.id] = new
        self._remember(new.idem, new.body, new.id)
        if new.fp:
            self.fps[new.fp] = new.id
        new.emit("queued", 0)
        return "created", new.id

    def _remember(self, idem: str, body: str, job_id: str) -> None:
        if idem:
            self.idem[idem], self.bodies[idem] = job_id, body

    def tend(self) -> None:
        """What time brings about: promotion needs no step here, a delayed job is just not yet ready."""
        self._reap()
        for job in self._in_state("queued"):
            if self.now >= job.deadline:
                self._expire(job)

    def claim(self, worker: str, want: int, nonce: int, running: int) -> list[tuple[str, int]]:
        """(job id, turn) of what the worker is given; the same again for a nonce that was answered before."""
        if (known := self._claims.get(worker)) is not None and known[0] == nonce:
            return known[1]
        self.tend()
        given = list(self._given(worker, want, running))
        if given:
            self._claims[worker] = (nonce, given)
        return given

    def _given(self, worker: str, want: int, running: int) -> Iterator[tuple[str, int]]:
        suspect = self._suspect(worker)
        if suspect is not None:
            if not running:
                self.quarantine = ""
                self.turn += 1
                yield self._give(suspect, worker)
            return
        for _ in range(want):
            self.turn += 1
            job = self._pick()
            if job is None:
                return
            yield self._give(job, worker)

    def _suspect(self, worker: str) -> ModelJob | None:
        waiting = [job for job in self._ready() if job.crashes >= SUSPECT_AT]
        if not waiting:
            return None
        self.quarantine = self.quarantine or worker
        return waiting[0] if self.quarantine == worker else None

    def _pick(self) -> ModelJob | None:
        ready = [job for job in self._ready() if job.crashes < SUSPECT_AT]
        for band in self._order(ready):
            for job in ready:
                if job.band == band:
                    return job
        return None

    def _order(self, ready: Sequence[ModelJob]) -> tuple[str, ...]:
        """Batch begins every 16th turn, standard every 4th, and every 8th whichever has grown old."""
        first = "interactive"
        if self.turn % 4 == 0:
            first = "batch" if self.turn % 16 == 0 else "standard"
        elif self.turn % 8 == 2:
            first = next((band for band in ("batch", "standard") if self._aged(ready, band)), first)
        return first, *(band for band in ("interactive", "standard", "batch") if band != first)

    def _aged(self, ready: Sequence[ModelJob], band: str) -> bool:
        oldest = next((job.created for job in ready if job.band == band), self.now)
        return self.now - oldest > AGED_MS[band]

    def _give(self, job: ModelJob, worker: str) -> tuple[str, int]:
        job.state, job.phase, job.worker = "running", "claimed", worker
        job.lease = self.now + self.lease_ms
        job.claimed_at = job.claimed_at or self.now
        return job.id, self.turn

    def held(self, worker: str) -> int:
        """How many jobs a worker runs."""
        return sum(job.worker == worker for job in self._in_state("running"))

    def dispatch(self, job: ModelJob, fence: str, try_no: int, in_bytes: int) -> str:
        """The word of the answer."""
        if job.fence != fence or job.state != "running":
            return "lost"
        if job.tries == try_no and job.phase != "claimed":
            return "ok"
        if job.cancelled:
            return "cancel"
        if self.now >= job.deadline:
            return "deadline"
        if job.calls >= job.max_calls:
            return "max_calls"
        return self._topped_up(job) or self._send(job, try_no, in_bytes)

    def _topped_up(self, job: ModelJob) -> str:
        """Holds the money of a further call; what a job without it has to do, empty where it has it."""
        if job.budget and not job.held and self.budget.left < BOUND:
            others = self.budget.left + self.budget.reserved >= BOUND
            return "budget_wait" if others and self.waits_until(job) < job.deadline else "budget"
        if not job.held:
            self._hold(job)
        return ""

    def waits_until(self, job: ModelJob) -> int:
        """When a job looks again whose further call has no room."""
        return self.now + min(60_000, 2_000 * 2 ** min(6, job.waits))

    def defer(self, job: ModelJob, fence: str, at: int) -> str:
        """'ok' or 'lost'."""
        if job.fence != fence or job.state != "running":
            return "ok" if job.requeued_by == fence else "lost"
        job.requeued_by, job.waits = fence, job.waits + 1
        self._back(job, at, "budget_exceeded")
        return "ok"

    def _hold(self, job: ModelJob) -> None:
        if job.budget:
            job.held = BOUND
            self.budget.reserved += BOUND

    def _let_go(self, job: ModelJob) -> None:
        self.budget.reserved -= job.held
        job.held = 0

    def _send(self, job: ModelJob, try_no: int, in_bytes: int) -> str:
        job.calls += 1
        job.call, job.tries, job.phase = job.calls, try_no, "dispatched"
        job.in_bytes, job.out_bytes, job.lease = in_bytes, 0, self.now + self.lease_ms
        if job.dirty:
            job.emit("reset", job.call, reason=f"call {job.call} starts the answer anew")
        else:
            job.emit("started", job.call)
        job.dirty = False
        return "ok"

    def append(self, job: ModelJob, fence: str, seq: int, text: str) -> tuple[str, int]:
        """(word, the log's last number)."""
        if job.fence != fence or job.state != "running":
            return "lost", job.seq
        if seq > job.seq + 1:
            return "gap", job.seq
        if seq == job.seq + 1:
            self._write(job, text)
            job.phase, job.dirty, job.out_bytes, job.lease = "streaming", True, len(text), self.now + self.lease_ms
        return ("cancel" if job.cancelled else "ok"), job.seq

    def _write(self, job: ModelJob, text: str) -> None:
        job.emit("delta", job.call, kind="text", text=text)
        job.first_at = job.first_at or self.now

    def finish(self, job: ModelJob, fence: str, end: End, texts: Sequence[str]) -> tuple[str, int]:
        """(word, the log's last number)."""
        if job.ended and job.ended_by == fence:
            return "ok", job.seq
        if job.fence != fence or job.state != "running":
            return "lost", job.seq
        if end.first_seq > job.seq + 1:
            return "gap", job.seq
        for text in texts[max(0, job.seq + 1 - end.first_seq) :]:
            self._write(job, text)
        if end.receipt is not None:
            self._book(job, end.receipt, kept=end.kept)
        self._end(job, end.state)
        return "ok", job.seq

    def requeue(self, job: ModelJob, fence: str, receipt: Receipt, delay_ms: int, reason: str) -> str:
        """'ok', 'lost', or 'cancel': somebody cancelled it, and nothing has changed."""
        if job.fence != fence or job.state != "running":
            return "ok" if job.requeued_by == fence else "lost"
        if job.cancelled:
            return "cancel"
        self._book(job, receipt, kept=False, reason=reason)
        job.requeued_by = fence
        self._back(job, self.now + delay_ms, reason)
        return "ok"

    def release(self, job: ModelJob, fence: str) -> None:
        """Back to the queue when it is held and was not dispatched; a cancelled one has come to its end."""
        if job.fence == fence and job.state == "running" and job.phase == "claimed":
            job.state, job.phase, job.fence = "queued", "", ""
            if job.cancelled:
                self._end(job, "cancelled", receipt=_no_receipt())

    def beat(self, held: Sequence[tuple[str, str]]) -> list[str]:
        """A word for each (job id, fence)."""
        return [self._renew(self.jobs[job_id], fence) for job_id, fence in held]

    def _renew(self, job: ModelJob, fence: str) -> str:
        if job.fence != fence or job.state != "running":
            return "lost"
        job.lease = self.now + self.lease_ms
        return "cancel" if job.cancelled else "ok"

    def cancel(self, job: ModelJob) -> Literal["cancelled", "requested", "ended"]:
        """What the owner is told."""
        if job.ended:
            return "ended"
        if job.state == "running":
            job.cancelled = True
            return "requested"
        self._end(job, "cancelled", receipt=_no_receipt())
        return "cancelled"

    def _reap(self) -> None:
        """The outage rule: leases count only after two thirds of a lease in which Redis was seen without a gap."""
        since, last = self.looked or (self.now, self.now)
        since = self.now if self.now - last > OUTAGE_MS else since
        self.looked = (since, self.now)
        safe = since + self.lease_ms * 2 // 3
        for job in self._in_state("running"):
            if job.lease <= self.now < safe:
                job.lease = safe
            elif job.lease <= self.now:
                self._recover(job)

    def _recover(self, job: ModelJob) -> None:
        sent, receipt = job.phase in DISPATCHED, _no_receipt()
        if sent:
            lost = self._estimate(job)
            self._book(job, lost, kept=False)
            receipt = _no_receipt() | {
                "output_tokens": lost.output_tokens, "spent_nano_usd": lost.spent_nano_usd, "estimated": True,
                "may_still_bill": True,
            }  # fmt: skip
        job.crashes += 1
        if job.cancelled:
            self._end(job, "cancelled", receipt=receipt)
        elif self.now >= job.deadline:
            self._expire(job)
        elif job.crashes >= POISON_AT:
            self._end(job, "failed", code="poison")
        elif sent and (job.on_crash == "fail" or job.calls >= job.max_calls):
            self._end(job, "failed", code="worker_lost")
        else:
            self._back(job, self.now, "worker_lost")

    def _estimate(self, job: ModelJob) -> Receipt:
        tokens, made = math.ceil(job.in_bytes / 3), math.ceil(job.out_bytes / 3)
        assert self.prices.input is not None
        assert self.prices.output is not None
        spent = math.floor((tokens * self.prices.input + made * self.prices.output) / 1_000_000 + 0.5)
        return Receipt("worker_lost", True, True, tokens, made, spent_nano_usd=spent)

    def _book(self, job: ModelJob, r: Receipt, *, kept: bool, reason: str = "") -> None:
        spent = r.spent_nano_usd or 0
        wasted = spent if r.billed and not kept else 0
        why = (reason or r.outcome) if r.billed and not kept else ""
        tokens = (r.input_tokens, r.output_tokens)
        job.ledger.append(
            LedgerRow(
                job.tries, job.call, r.outcome, r.billed, r.estimated, *tokens, r.spent_nano_usd, wasted, why, job.held
            )
        )
        if r.billed and job.held:
            self.budget.spent += spent
            self.budget.unsure += r.estimated * (job.held - spent)
            self._let_go(job)
        job.spent, job.wasted = job.spent + spent, job.wasted + wasted
        job.calls -= not r.billed

    def _back(self, job: ModelJob, at: int, reason: str) -> None:
        job.emit("retrying", job.call, reason=reason, retry_at=_rfc3339(at))
        job.state, job.phase, job.fence, job.not_before = "queued", "", "", at

    def _expire(self, job: ModelJob) -> None:
        self._end(job, "expired", code="deadline_exceeded")

    def _end(self, job: ModelJob, state: str, *, code: str = "", receipt: dict[str, Any] | None = None) -> None:
        self._let_go(job)
        said: dict[str, Any] = {"status": state, "calls": job.calls, "cost": _cost(job), "timings": self._timings(job)}
        said |= ({"error": code} if code else {}) | ({"receipt": receipt} if receipt else {})
        job.emit(state, job.call, **said)
        job.state, job.phase, job.ended_by, job.fence = state, "", job.fence, ""
        if job.fp and self.fps.get(job.fp) == job.id and state != "succeeded":
            del self.fps[job.fp]

    def _timings(self, job: ModelJob) -> dict[str, float | None]:
        return {
            "queue_s": _seconds(job.created, job.claimed_at), "ttft_s": _seconds(job.created, job.first_at),
            "provider_ttft_s": None, "generation_s": _seconds(job.first_at, self.now),
            "total_s": _seconds(job.created, self.now),
        }  # fmt: skip

    def _in_state(self, state: str) -> list[ModelJob]:
        return [job for job in self.jobs.values() if job.state == state]

    def _ready(self) -> list[ModelJob]:
        """Waiting jobs that may start, oldest first; a tie goes by id."""
        waiting = [job for job in self._in_state("queued") if job.not_before <= self.now]
        return sorted(waiting, key=lambda job: (job.created, job.id))


def _again(job: ModelJob) -> str:
    return "replayed" if job.ended else "joined"


def _no_receipt() -> dict[str, Any]:
    return {
        "output_tokens": 0, "spent_nano_usd": 0, "estimated": False, "may_still_bill": False, "saved_nano_usd": None,
    }  # fmt: skip


def _cost(job: ModelJob) -> dict[str, Any]:
    usd = f"{job.spent // 10**9}.{job.spent % 10**9:09d}".rstrip("0").rstrip(".")
    return {
        "nano_usd": job.spent, "usd": usd, "wasted_nano_usd": job.wasted, "reserved_nano_usd": 0, "priced": True,
    }  # fmt: skip


def _seconds(begin: int | None, end: int | None) -> float | None:
    return None if begin is None or end is None else (end - begin) / 1000


def _rfc3339(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
