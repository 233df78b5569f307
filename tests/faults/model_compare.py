"""The real scripts on a real Redis beside the model, and what is compared after each step of model_machine.py."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, TypeVar, cast
from uuid import uuid4

import pytest
from hypothesis.stateful import invariant

from onceq.wire import BudgetRequest, LedgerEntry
from onceq_service.store import Budgets, Jobs, Keys, Retention, Stats, StoreUnavailable, lifetimes
from onceq_service.store._pipe import Arg, connect
from onceq_service.store.budgets import budget_of
from onceq_service.store.engine import Engine
from onceq_service.store.stats import ledger_rows, totals
from onceq_service.store.views import Fields
from tests.faults.clock import ClockedPipe
from tests.faults.model import LIMIT, Event, LedgerRow, Model, ModelJob
from tests.faults.run import LogEvent, parse_frame
from tests.faults.walk import Walk
from tests.service.store.driver import PRICES

T = TypeVar("T")
LEASE_S = 6.0
WORKERS = ("w0", "w1")
BUDGET = budget_of(BudgetRequest(name="all", limit_usd=LIMIT / 1e9, period="total"), "t", "file")
NUMBERS = ("seq", "calls", "call", "tries", "crashes", "spent", "wasted")


class ModelComparison(Walk):
    """A queue, the model of it, and the comparison of both: states, fences, counts, logs, ledger, money."""

    redis_url: ClassVar[str]
    seen: ClassVar[Counter[str]] = Counter()
    """Answers of scripts and names of events, so that a run that reached nothing is noticed."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model(round(LEASE_S * 1000), PRICES)
        self.run(self._open())

    async def _open(self) -> None:
        self.keys, retention = Keys(f"m{uuid4().hex[:12]}"), Retention(lease_s=LEASE_S)
        self.pipe = ClockedPipe(connect(self.redis_url, connections=2), self.keys)
        self.jobs, self.stats = Jobs(self.pipe, self.keys, retention), Stats(self.pipe, self.keys)
        self.budgets = Budgets(self.pipe, self.keys)
        self.engines = {w: Engine(self.pipe, self.keys, retention, self.pipe) for w in WORKERS}
        self.engine = self.engines["w0"]
        await self.pipe.set_clock(self.model.now)

    def twice(self, do: Callable[[], Awaitable[T]], lost: bool) -> T:
        """Does it; where the answer is lost, does it again, as every caller in the product would."""
        if lost:
            self.pipe.losing = True
            with pytest.raises(StoreUnavailable):
                self.run(do())
            self.pipe.losing = False
        return self.run(do())

    def note(self, answer: T) -> T:
        """Remembers that a script has answered so."""
        self.seen[str(answer)] += 1
        return answer

    def ask(self, *command: Arg) -> Any:
        """A plain command of Redis."""

        async def do() -> Any:
            return await self.pipe.command(*command)

        return self.runner.run(do())

    def later(self, ms: int) -> None:
        self.model.now += ms
        self.run(self.pipe.set_clock(self.model.now))

    def tend(self) -> None:
        self.model.tend()
        self.run(self.engine.tend())

    @invariant()
    def every_job_is_what_the_model_says(self) -> None:
        for job in self.model.jobs.values():
            fields = self.run(self.jobs.fields(job.id, "t"))
            assert fields is not None, f"{job.id} is gone"
            assert state_of(fields) == expected_state(job)
            assert [row_of(entry) for entry in ledger_rows(fields)] == job.ledger
            self.compare_log(job)

    def compare_log(self, job: ModelJob) -> None:
        entries = self.ask("XRANGE", self.keys("events", job.id), "-", "+")
        log = [parse_frame(cast("bytes", entry[1][1]).decode()) for entry in entries]
        assert [int(entry[0].split(b"-")[0]) for entry in entries] == list(range(1, len(job.log) + 1))
        for seq, (event, expected) in enumerate(zip(log, job.log, strict=True), 1):
            assert event.seq == seq
            assert (event.name, event.data["job"], event.data["seq"]) == (expected.name, job.id, seq)
            assert shown(event) == expected

    @invariant()
    def the_sums_are_those_of_the_jobs(self) -> None:
        depth = self.run(self.stats.depth("t")).model_dump()
        states = [job.state for job in self.model.jobs.values()]
        assert depth == {state: states.count(state) for state in depth}
        rows = [row for job in self.model.jobs.values() for row in job.ledger]
        assert self.ask("XLEN", self.keys("ledger", "t")) == len(rows)
        hours = self.run(self.stats.hours("t", self.model.now - 7_200_000, self.model.now))
        t = totals([fields for hour in hours for fields in hour.fields])
        billed, spent, wasted = (
            sum(r.billed for r in rows),
            sum(r.spent or 0 for r in rows),
            sum(r.wasted for r in rows),
        )
        assert (t.jobs, t.tries, t.calls) == (len(states), len(rows), billed)
        assert (t.spent_nano_usd, t.wasted_nano_usd) == (spent, wasted)
        assert t.estimated_nano_usd == sum(r.spent or 0 for r in rows if r.estimated)

    @invariant()
    def the_budget_holds(self) -> None:
        """G7; and what is held is held for a job that goes on, so that in the end it is nothing."""
        wanted = self.model.budget
        found = self.run(self.budgets.status([BUDGET], self.model.now))[0].use
        assert (found.spent_nano_usd, found.reserved_nano_usd) == (wanted.spent, wanted.reserved)
        assert (found.unsure_nano_usd, found.left_nano_usd) == (wanted.unsure, wanted.left)
        assert min(wanted.spent, wanted.reserved, wanted.unsure, wanted.left) >= 0
        live = [job for job in self.model.jobs.values() if not job.ended]
        assert wanted.reserved == sum(job.held for job in live)
        rows = [row for job in self.model.jobs.values() if job.budget for row in job.ledger]
        assert wanted.spent == sum(row.spent or 0 for row in rows)

    def teardown(self) -> None:
        try:
            for job in self.model.jobs.values():
                self.seen.update(event.name for event in job.log)
                self.seen.update(str(event.data["error"]) for event in job.log if "error" in event.data)
            self.run(self._close())
        finally:
            self.runner.close()

    async def _close(self) -> None:
        await self.pipe.forget_clock()
        overdue = await lifetimes.overdue(self.pipe, self.keys)
        await self.pipe.close()
        assert not overdue, f"keys without a lifetime: {overdue}"


def state_of(fields: Fields) -> dict[str, Any]:
    words = {name: fields.get(name, b"").decode() for name in ("state", "phase", "fence")}
    return words | {name: int(fields.get(name, 0)) for name in NUMBERS} | {"cancelled": "cancel" in fields}


def expected_state(job: ModelJob) -> dict[str, Any]:
    return {name: getattr(job, name) for name in ("state", "phase", "fence", *NUMBERS, "cancelled")}


def row_of(entry: LedgerEntry) -> LedgerRow:
    return LedgerRow(
        entry.try_no, entry.call, entry.outcome, entry.billed, entry.estimated, entry.input_tokens,
        entry.output_tokens, entry.spent_nano_usd, entry.wasted_nano_usd, entry.waste_reason or "",
        entry.reserved_nano_usd,
    )  # fmt: skip


def whole(timings: dict[str, Any]) -> dict[str, Any]:
    """Timings whose phases are the whole time, to the millisecond; which is which has tests of its own."""
    spent_s = sum(timings["phases"].values())
    assert round(1000 * spent_s) == round(1000 * timings["total_s"])
    return {name: value for name, value in timings.items() if name not in ("phases", "verdict")}


def shown(event: LogEvent) -> Event:
    """An event without what every event has, and of its error the code alone."""
    data = {name: value for name, value in event.data.items() if name not in ("job", "seq", "call")}
    if "error" in data:
        data["error"] = data["error"]["code"]
    if "timings" in data:
        data["timings"] = whole(data["timings"])
    return Event(event.name, event.data["call"], data)
