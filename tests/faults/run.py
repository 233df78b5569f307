"""Everything that is known about a run when it is over: what the checker judges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import msgspec

from onceq.wire import TERMINAL, BudgetStatus, Depth, Job, LedgerEntry, Totals
from tests.faults.history import Record
from tests.faults.pauses import Pause, lost_s


class Row(msgspec.Struct, frozen=True):
    """One request as the simulator's meter counted it; `billed` false for a refusal."""

    n: int
    job: str | None
    call: int | None
    started_at: float
    ended_at: float | None
    status: str
    billed: bool
    input_tokens: int = 0
    output_tokens: int = 0
    nano_usd: int | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class LogEvent:
    """One event of a job's log, and the frame as it is stored."""

    seq: int
    name: str
    data: Mapping[str, Any]
    frame: str

    @property
    def terminal(self) -> bool:
        return self.name in TERMINAL


def parse_frame(frame: str) -> LogEvent:
    """One SSE event; raises ValueError when it is not `id`, `event`, `data`."""
    first, event, data = frame.rstrip("\n").split("\n")
    name = event.removeprefix("event: ")
    return LogEvent(int(first.removeprefix("id: ")), name, msgspec.json.decode(data.removeprefix("data: ")), frame)


@dataclass(frozen=True, slots=True)
class Expect:
    """What this kind of fault may cost. Everything else is forbidden to every run."""

    statuses: frozenset[str] = frozenset({"succeeded"})
    extra_calls: int = 0
    """Calls that were billed, and lost with their worker."""
    max_calls: int = 3
    lease_s: float = 15.0
    recovers: bool = True
    """Whether recovery is promised in lease + 2 s: with uninterrupted life of Redis, and a worker that is left."""
    cancel_s: float = 0.25
    """From the client's cancel until the provider sees its call closed, while all processes can run."""
    abandoned: frozenset[str] = frozenset()
    """Readers that go away on purpose: what they got must be right, but need not be all."""
    owned_up: bool = False
    """Whether all workers that lost jobs have come back, and have told what they knew."""
    calls_made: bool = True
    unjudged: frozenset[str] = frozenset()
    """Rules that need what this run can't have."""


@dataclass(frozen=True)
class Run:
    """`jobs`, `logs` and `ledger` by job id, for all ids that a client was given or that the tenant has."""

    history: Sequence[Record]
    listed: frozenset[str]
    jobs: Mapping[str, Job]
    logs: Mapping[str, Sequence[LogEvent]]
    ledger: Mapping[str, Sequence[LedgerEntry]]
    meter: Sequence[Row]
    depth: Depth
    totals: Totals
    budgets: Sequence[BudgetStatus] = ()
    """Those of the tenant, when all was over."""
    watched: Sequence[BudgetStatus] = ()
    """The same, as they were seen again and again meanwhile."""
    expect: Expect = field(default_factory=Expect)
    pauses: Sequence[Pause] = ()
    """When the machine kept one of its processes waiting."""

    def worked_s(self, since: float, until: float, least_s: float = 0.0) -> float:
        """How much of the time between all processes could run, when pauses of that length are looked at."""
        return until - since - lost_s(self.pauses, since, until, least_s)

    def records(self, op: str, *kinds: str) -> list[Record]:
        """The history of one kind of thing."""
        return [r for r in self.history if r.op == op and (not kinds or r.kind in kinds)]

    @cached_property
    def accepted(self) -> frozenset[str]:
        """Ids that some client was given with a 202."""
        return frozenset(r.job for r in self.records("post", "ok"))

    @cached_property
    def rows(self) -> Mapping[str, Sequence[Row]]:
        """The meter's rows by job, in order of their start."""
        found: dict[str, list[Row]] = {job_id: [] for job_id in self.jobs}
        for row in sorted(self.meter, key=lambda r: r.started_at):
            found.setdefault(row.job or "?", []).append(row)
        return found

    def billed(self, job_id: str) -> list[Row]:
        """The calls that the provider charges for this job."""
        return [row for row in self.rows.get(job_id, ()) if row.billed]
