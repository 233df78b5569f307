"""A hypothesis state machine: the real scripts on a real Redis beside the model, step by step, with lost answers.

After each step every job's state, fence, counts, log, ledger and money must be what the model says. In CI the examples
are few and always the same; ONCEQ_MODEL_EXAMPLES asks for more, and then each run tries others.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, cast
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from onceq.wire import BudgetRequest, LedgerEntry
from onceq_service.embedded.redis_server import EmbeddedRedis
from onceq_service.store import (
    BudgetRefused,
    Budgets,
    Jobs,
    KeyReused,
    Keys,
    LeaseLost,
    Retention,
    StoreUnavailable,
    Sums,
    lifetimes,
    scripts,
)
from onceq_service.store._pipe import Arg, connect
from onceq_service.store.budgets import budget_of, line
from onceq_service.store.engine import Claim, End, EndState, Engine, Receipt
from onceq_service.store.stats import ledger_rows, totals
from onceq_service.store.views import Fields
from tests.faults.clock import ClockedPipe
from tests.faults.model import BOUND, LIMIT, Event, LedgerRow, Model, ModelJob
from tests.faults.run import LogEvent, parse_frame
from tests.service.store.driver import PRICES, admission, text_frame

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., None])
MOST_JOBS = 12
OF_A_CLAIM = ("dispatch", "append", "finish", "requeue", "release", "beat")
LEASE_S = 6.0
EXAMPLES = int(os.environ.get("ONCEQ_MODEL_EXAMPLES") or 0)
PHASES = (Phase.generate,) if os.environ.get("ONCEQ_MODEL_UNSHRUNK") else tuple(Phase)
RECEIPTS = {
    "ok": Receipt("ok", billed=True, input_tokens=3, output_tokens=2, spent_nano_usd=7_000),
    "broken": Receipt("stream_broken", True, True, input_tokens=4, output_tokens=1, spent_nano_usd=6_500),
    "refused": Receipt("provider_rate_limited", billed=False),
}
WORKERS = ("w0", "w1")
BUDGET = budget_of(BudgetRequest(name="all", limit_usd=LIMIT / 1e9, period="total"), "t", "file")
lost = st.booleans()
which = st.runner().flatmap(lambda machine: st.sampled_from(machine.in_reach()))
texts = st.lists(st.text(min_size=1, max_size=4), max_size=2)


@dataclass(frozen=True)
class Held:
    """A claim as its worker remembers it, for ever: most of them are stale after a while."""

    claim: Claim
    worker: str


STEPS: dict[str, st.SearchStrategy[dict[str, Any]]] = {}


def step(**arguments: st.SearchStrategy[Any]) -> Callable[[F], F]:
    """A step of the machine. Not a rule of its own: hypothesis leaves most rules out of an example, to see more of the
    others, and would never come as deep as a second call."""

    def remember(function: F) -> F:
        STEPS[function.__name__] = st.fixed_dictionaries(arguments)
        return function

    return remember


class Scripts(RuleBasedStateMachine):
    """Every rule does the same to Redis and to the model, and compares what they answer."""

    redis_url: ClassVar[str]
    seen: ClassVar[Counter[str]] = Counter()
    """Answers of scripts and names of events, so that a run that reached nothing is noticed."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.model = Model(round(LEASE_S * 1000), PRICES)
        self.nonce = 0
        self.helds: list[Held] = []
        self.fences: set[str] = set()
        self.run(self._open())

    async def _open(self) -> None:
        self.keys, retention = Keys(f"m{uuid4().hex[:12]}"), Retention(lease_s=LEASE_S)
        self.pipe = ClockedPipe(connect(self.redis_url, connections=2), self.keys)
        self.jobs, self.sums = Jobs(self.pipe, self.keys, retention), Sums(self.pipe, self.keys)
        self.budgets = Budgets(self.pipe, self.keys)
        self.engines = {w: Engine(self.pipe, self.keys, retention, self.pipe.client) for w in WORKERS}
        self.engine = self.engines["w0"]
        await self.pipe.set_clock(self.model.now)

    def run(self, doing: Awaitable[T]) -> T:
        async def wait() -> T:
            return await doing

        return self.runner.run(wait())

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

    @rule(data=st.data())
    def anything(self, data: st.DataObject) -> None:
        """Any step that is possible now."""
        possible = [name for name in STEPS if self.possible(name)]
        name = data.draw(st.sampled_from(possible), label="step")
        getattr(self, name)(**data.draw(STEPS[name], label=name))

    def possible(self, name: str) -> bool:
        if name in ("admit", "cancel"):
            return len(self.model.jobs) < MOST_JOBS if name == "admit" else bool(self.model.jobs)
        return bool(self.helds) or name not in OF_A_CLAIM

    @initialize()
    def begin(self) -> None:
        """Redis is looked at from the first moment on."""
        self.tend()

    @step(
        band=st.sampled_from(["interactive", "standard", "batch"]), idem=st.sampled_from(["", "i1", "i2"]),
        body=st.sampled_from(["b1", "b2"]), fp=st.sampled_from(["", "", "f1", "f2"]), max_calls=st.integers(1, 3),
        on_crash=st.sampled_from(["retry", "fail"]), deadline_s=st.sampled_from([15.0, 40.0, 3600.0]),
        budget=st.booleans(), lost=lost,
    )  # fmt: skip
    def admit(
        self, band: str, idem: str, body: str, fp: str, max_calls: int, on_crash: str, deadline_s: float, budget: bool,
        lost: bool,
    ) -> None:  # fmt: skip
        job_id = f"job_{len(self.model.jobs):032x}"
        wish: dict[str, Any] = {"idem": idem, "fp": fp, "max_calls": max_calls, "on_crash": on_crash, "band": band}
        lines = line(BUDGET, BOUND, self.model.now) if budget else ""
        a = admission(id=job_id, body_hash=body, deadline_s=deadline_s, budgets=lines, **wish)
        now = self.model.now
        new = ModelJob(
            id=job_id, body=body, created=now, deadline=now + round(deadline_s * 1000), budget=budget, **wish
        )
        expected = [self.model.admit(new) for _ in range(1 + lost)][-1]
        try:
            made = self.twice(lambda: self.jobs.admit(a), lost)
            got = str(made.disposition), made.id
        except KeyReused as exc:
            got = "reused", exc.job_id
        except BudgetRefused as exc:
            got = exc.word, job_id
        assert (self.note(got[0]), got[1]) == expected

    @step(deadline_s=st.sampled_from([40.0, 3600.0]))
    def crowd(self, deadline_s: float) -> None:
        """Several posts at once, so that a budget without room is common."""
        for _ in range(3):
            self.admit(**wish(deadline_s, budget=True))

    @step(worker=st.sampled_from(WORKERS), want=st.integers(1, 3), lost=lost)
    def claim(self, worker: str, want: int, lost: bool) -> None:
        self.nonce += 1
        running = self.model.held(worker)
        expected = [self.model.claim(worker, want, self.nonce, running) for _ in range(1 + lost)][-1]
        engine = self.engines[worker]
        got, _ = self.twice(lambda: engine.claim(worker, want, ["openai"], running=running), lost)
        assert [(c.id, int(c.fence.split("-")[0])) for c in got] == expected
        for claim in got:
            assert claim.fence not in self.fences, "a fence is never given twice"
            self.fences.add(claim.fence)
            self.model.jobs[claim.id].fence = claim.fence
        self.helds += [Held(claim, worker) for claim in got]

    @step(worker=st.sampled_from(WORKERS), want=st.integers(1, 3), text=st.text(max_size=3))
    def work(self, worker: str, want: int, text: str) -> None:
        """Several steps at once, so that jobs in the middle of an answer are common."""
        before = len(self.helds)
        self.claim(worker, want, lost=False)
        for held in self.helds[before:]:
            self.dispatch(held, 100, lost=False)
            if text and self.holds(held):
                self.append(held, 1, text, lost=False)

    @step(worker=st.sampled_from(WORKERS), said=st.lists(st.text(min_size=1, max_size=4), max_size=2))
    def answer(self, worker: str, said: list[str]) -> None:
        """A job from its claim to its answer, so that whole ones are common, too."""
        before = len(self.helds)
        self.claim(worker, 1, lost=False)
        for held in self.helds[before:]:
            self.dispatch(held, 100, lost=False)
            if self.holds(held) and self.job(held).phase == "dispatched":
                self.finish(held, "succeeded", 1, said, lost=False)

    @step(held=which, in_bytes=st.integers(0, 400), lost=lost)
    def dispatch(self, held: Held, in_bytes: int, lost: bool) -> None:
        job, claim, number = self.job(held), held.claim, held.claim.number("tries") + 1
        expected = self.note(self.model.dispatch(job, claim.fence, number, in_bytes))
        try:
            sent = self.twice(lambda: self.engine.dispatch(claim, number, in_bytes, PRICES), lost)
            assert (sent.word, sent.call, sent.seq, sent.now_ms) == (expected, job.call, job.seq, self.model.now)
        except LeaseLost:
            assert expected == "lost"
        if expected == "budget_wait":
            self.defer(held, self.model.waits_until(job), lost)

    def defer(self, held: Held, at: int, lost: bool) -> None:
        """What a worker does then."""
        assert self.model.defer(self.job(held), held.claim.fence, at) == "ok"
        self.twice(lambda: self.engine.defer(held.claim, at), lost)

    @step(held=which, step=st.integers(0, 2), text=st.text(min_size=1, max_size=6), lost=lost)
    def append(self, held: Held, step: int, text: str, lost: bool) -> None:
        job = self.job(held)
        if job.fence == held.claim.fence and job.phase == "claimed":
            return  # a worker has nothing to say before its call
        frame = text_frame(held.claim, job.seq + step, text, job.call)
        expected = self.model.append(job, held.claim.fence, frame.seq, text)
        self.note(f"append {expected[0]}")
        assert self.twice(lambda: self.engine.append([frame]), lost) == [expected]

    @step(
        held=which, state=st.sampled_from(["succeeded", "succeeded", "failed", "cancelled"]), step=st.integers(0, 2),
        said=texts, lost=lost,
    )  # fmt: skip
    def finish(self, held: Held, state: EndState, step: int, said: list[str], lost: bool) -> None:
        job, claim = self.job(held), held.claim
        called = job.fence == claim.fence and job.phase != "claimed"
        said = said if called else []
        frames = [text_frame(claim, job.seq + step + n, text, job.call).data for n, text in enumerate(said)]
        end = ending(state, called, job.seq + step if frames else 0, frames)
        expected = self.model.finish(job, claim.fence, end, said)
        self.note(f"finish {expected[0]}")
        try:
            assert self.twice(lambda: self.engine.finish(claim, end), lost) == expected
        except LeaseLost:
            assert expected[0] == "lost"

    @step(held=which, what=st.sampled_from(["broken", "refused"]), delay_s=st.sampled_from([0.0, 0.0, 3.0]), lost=lost)
    def requeue(self, held: Held, what: str, delay_s: float, lost: bool) -> None:
        job, claim, receipt = self.job(held), held.claim, RECEIPTS[what]
        if job.fence == claim.fence and job.phase == "claimed":
            return  # there is no try to book
        expected = self.model.requeue(job, claim.fence, receipt, round(delay_s * 1000), receipt.outcome)
        self.note(f"requeue {expected}")
        try:
            again = lambda: self.engine.requeue(claim, receipt, delay_s=delay_s, reason=receipt.outcome)  # noqa: E731
            assert self.twice(again, lost) == (expected == "ok")
            assert expected in ("ok", "cancel")
        except LeaseLost:
            assert expected == "lost"

    @step(held=which, lost=lost)
    def release(self, held: Held, lost: bool) -> None:
        self.model.release(self.job(held), held.claim.fence)
        self.twice(lambda: self.engine.release(held.claim), lost)

    @step(n=st.integers(0, MOST_JOBS - 1), lost=lost)
    def cancel(self, n: int, lost: bool) -> None:
        jobs = sorted(self.model.jobs.values(), key=lambda job: job.state != "running")
        job = jobs[n % len(jobs)]
        expected = [self.model.cancel(job) for _ in range(1 + lost)][-1]
        assert self.twice(lambda: self.jobs.cancel(job.id, "t"), lost) == expected

    @step(held=which)
    def beat(self, held: Held) -> None:
        pair = (held.claim.id, held.claim.fence)
        argv = [held.worker, b"{}", round(LEASE_S * 1000), *pair]
        words = self.run(self.beaten(argv))
        assert [word.decode() for word in words] == self.model.beat([pair])

    async def beaten(self, argv: Sequence[Arg]) -> list[bytes]:
        """What Heart sends, on the connection that has the test's clock."""
        return await self.pipe.script(scripts.BEAT, self.keys.root, argv)

    @step(seconds=st.integers(1, 14))
    def time_passes(self, seconds: int) -> None:
        """As it does while an API process lives: Redis is looked at each second."""
        for _ in range(seconds):
            self.later(1000)
            self.tend()

    @step(times=st.integers(1, 7), text=st.text(max_size=3))
    def workers_die_again_and_again(self, times: int, text: str) -> None:
        for _ in range(times):
            for worker in WORKERS:
                self.work(worker, 3, text)
            self.time_passes(round(LEASE_S) + 1)

    @step(ms=st.integers(1, 15_000))
    def nobody_looks(self, ms: int) -> None:
        """Redis was away, or all of us."""
        self.later(ms)

    @step()
    def tend(self) -> None:
        self.model.tend()
        self.run(self.engine.tend())

    def ask(self, *command: Arg) -> Any:
        """A plain command of Redis."""

        async def do() -> Any:
            return await self.pipe.command(*command)

        return self.runner.run(do())

    def later(self, ms: int) -> None:
        self.model.now += ms
        self.run(self.pipe.set_clock(self.model.now))

    def in_reach(self) -> list[Held]:
        """Claims to choose from: those that hold their job three times as often as those that were lost."""
        return [held for held in self.helds if self.holds(held)] * 3 + self.helds

    def holds(self, held: Held) -> bool:
        return self.job(held).fence == held.claim.fence

    def job(self, held: Held) -> ModelJob:
        return self.model.jobs[held.claim.id]

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
        depth = self.run(self.sums.depth("t")).model_dump()
        states = [job.state for job in self.model.jobs.values()]
        assert depth == {state: states.count(state) for state in depth}
        rows = [row for job in self.model.jobs.values() for row in job.ledger]
        assert self.ask("XLEN", self.keys("ledger", "t")) == len(rows)
        hours = self.run(self.sums.hours("t", self.model.now - 7_200_000, self.model.now))
        t = totals([fields for hour in hours for fields in hour.fields])
        billed, spent, wasted = (
            sum(r.billed for r in rows),
            sum(r.spent or 0 for r in rows),
            sum(r.wasted for r in rows),
        )
        assert (t.jobs, t.tries, t.calls) == (len(states), len(rows), billed)
        assert (t.spent_nano_usd, t.wasted_nano_usd) == (spent, wasted)

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


def ending(state: EndState, called: bool, first_seq: int, frames: list[bytes]) -> End:
    """A job's end as a worker brings it: an answer only after a call, and what was refused has cost nothing."""
    if not called:
        state = "failed" if state == "succeeded" else state
        return End(state=state, rest=b"", output=b"", receipt=None, kept=False, first_seq=0)
    word = "ok" if state == "succeeded" else "broken" if frames or state == "cancelled" else "refused"
    return End(
        state=state, rest=b"", output=b"", receipt=RECEIPTS[word], kept=state == "succeeded", first_seq=first_seq,
        frames=frames,
    )  # fmt: skip


NUMBERS = ("seq", "calls", "call", "tries", "crashes", "spent", "wasted")


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


REACHED = {
    "over_budget",
    "created", "joined", "replayed", "reused", "ok", "lost", "append ok", "append lost", "finish ok",
    "finish lost", "started", "delta", "reset", "retrying", "succeeded", "failed", "cancelled", "expired",
    "worker_lost", "deadline_exceeded",
}  # fmt: skip


def test_the_scripts_do_what_the_model_says(redis_server: EmbeddedRedis) -> None:
    Scripts.redis_url = redis_server.url
    wanted = settings(
        max_examples=EXAMPLES or 40, stateful_step_count=40, derandomize=not EXAMPLES, deadline=None, database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        print_blob=False, phases=PHASES,
    )  # fmt: skip
    Scripts.seen.clear()
    run_state_machine_as_test(Scripts, settings=wanted)
    assert set(Scripts.seen) >= REACHED, f"never reached: {REACHED - set(Scripts.seen)}"


def wish(deadline_s: float = 3600.0, max_calls: int = 3, budget: bool = False) -> dict[str, Any]:
    """What `admit` takes, for a job without key and fingerprint."""
    body: dict[str, Any] = {"band": "standard", "idem": "", "body": "b1", "fp": "", "on_crash": "retry"}
    return body | {"deadline_s": deadline_s, "max_calls": max_calls, "budget": budget, "lost": False}


@pytest.fixture
def machine(redis_server: EmbeddedRedis) -> Generator[Scripts]:
    """The same machine, for walks by hand that chance seldom takes."""
    Scripts.redis_url = redis_server.url
    opened = Scripts()
    opened.begin()
    yield opened
    opened.every_job_is_what_the_model_says()
    opened.the_sums_are_those_of_the_jobs()
    opened.the_budget_holds()
    opened.teardown()


def test_a_job_that_kills_six_workers_is_poison(machine: Scripts) -> None:
    machine.admit(**wish())
    for _ in range(6):
        for worker in WORKERS:
            machine.claim(worker, 1, lost=True)
        machine.time_passes(round(LEASE_S) + 1)
    [job] = machine.model.jobs.values()
    assert job.log[-1].data["error"] == "poison"


def test_a_worker_hears_of_a_cancel_in_every_answer(machine: Scripts) -> None:
    for _ in range(2):
        machine.admit(**wish())
    machine.claim("w0", 2, lost=False)
    streaming, claimed = machine.helds
    machine.dispatch(streaming, 9, lost=False)
    machine.append(streaming, 1, "a", lost=False)
    for n in range(2):
        machine.cancel(n, lost=True)
    machine.append(streaming, 1, "b", lost=True)
    machine.append(streaming, 2, "after a gap", lost=True)
    machine.beat(streaming)
    machine.dispatch(claimed, 9, lost=True)
    machine.finish(streaming, "cancelled", 2, ["after a gap"], lost=False)
    machine.finish(streaming, "cancelled", 0, ["b", "c"], lost=True)


def test_a_cancelled_job_goes_back_to_no_queue(machine: Scripts) -> None:
    for _ in range(2):
        machine.admit(**wish())
    machine.claim("w0", 2, lost=False)
    failed, claimed = machine.helds
    machine.dispatch(failed, 9, lost=False)
    for n in range(2):
        machine.cancel(n, lost=False)
    machine.requeue(failed, "refused", 3.0, lost=True)
    machine.finish(failed, "cancelled", 0, [], lost=True)
    machine.release(claimed, lost=True)
    assert machine.seen["requeue cancel"]
    assert {job.state for job in machine.model.jobs.values()} == {"cancelled"}


def test_a_call_is_not_begun_behind_the_deadline(machine: Scripts) -> None:
    machine.admit(**wish(deadline_s=2.0))
    machine.claim("w0", 1, lost=False)
    machine.later(2500)
    machine.dispatch(machine.helds[0], 9, lost=True)
    machine.finish(machine.helds[0], "cancelled", 0, [], lost=True)


def test_a_job_makes_no_more_calls_than_it_may(machine: Scripts) -> None:
    machine.admit(**wish(max_calls=1))
    machine.claim("w0", 1, lost=False)
    machine.dispatch(machine.helds[0], 9, lost=True)
    machine.requeue(machine.helds[0], "broken", 0.0, lost=True)
    machine.claim("w1", 1, lost=True)
    machine.dispatch(machine.helds[1], 9, lost=True)
    assert machine.seen["max_calls"]


@pytest.mark.parametrize("sent", [False, True])
def test_a_job_whose_worker_dies_after_a_cancel_tells_what_it_has_cost(machine: Scripts, sent: bool) -> None:
    machine.admit(**wish())
    machine.claim("w0", 1, lost=False)
    if sent:
        machine.dispatch(machine.helds[0], 9, lost=False)
    machine.cancel(0, lost=False)
    machine.time_passes(round(LEASE_S) + 1)
    [job] = machine.model.jobs.values()
    assert job.log[-1].data["receipt"]["may_still_bill"] is sent


def test_leases_that_ran_out_while_nobody_looked_are_no_deaths(machine: Scripts) -> None:
    """The outage rule: only two thirds of a lease (4 s) later a worker that is still silent is a dead one."""
    machine.admit(**wish())
    machine.claim("w0", 1, lost=False)
    machine.dispatch(machine.helds[0], 9, lost=False)
    machine.nobody_looks(15_000)
    for seconds, state in ((1, "running"), (2, "running"), (2, "queued")):
        machine.time_passes(seconds)
        machine.every_job_is_what_the_model_says()
        [job] = machine.model.jobs.values()
        assert job.state == state


@pytest.mark.parametrize("how", ["beat", "append"])
def test_a_worker_that_lets_hear_of_itself_keeps_its_job(machine: Scripts, how: str) -> None:
    machine.admit(**wish())
    machine.claim("w0", 1, lost=False)
    [held] = machine.helds
    machine.dispatch(held, 9, lost=False)
    for _ in range(3):
        machine.time_passes(round(LEASE_S) - 2)
        machine.beat(held) if how == "beat" else machine.append(held, 1, "a", lost=False)
    machine.every_job_is_what_the_model_says()
    assert machine.job(held).phase == ("dispatched" if how == "beat" else "streaming")


def test_a_waiting_job_ends_at_its_deadline(machine: Scripts) -> None:
    machine.admit(**wish(deadline_s=2.0))
    machine.admit(**wish())
    machine.time_passes(3)
    assert [job.state for job in machine.model.jobs.values()] == ["expired", "queued"]


def test_a_try_that_was_refused_is_no_call_and_is_counted_as_none(machine: Scripts) -> None:
    machine.admit(**wish(max_calls=1))
    for n in range(2):
        machine.claim("w0", 1, lost=False)
        machine.dispatch(machine.helds[n], 9, lost=False)
        machine.requeue(machine.helds[n], "refused", 0.0, lost=True)
    machine.every_job_is_what_the_model_says()
    [job] = machine.model.jobs.values()
    assert (job.calls, len(job.ledger)) == (0, 2)


def test_a_call_is_made_again_only_with_money_for_it(machine: Scripts) -> None:
    """Each of four calls is lost with all that it may have cost: then nothing can help, and nothing is called."""
    before = machine.seen["budget"], machine.seen["budget_wait"]
    for _ in range(4):
        machine.admit(**wish(budget=True))
    machine.claim("w0", 4, lost=False)
    for n in range(4):
        machine.dispatch(machine.helds[n], 9, lost=False)
    machine.requeue(machine.helds[0], "broken", 0.0, lost=True)
    machine.claim("w1", 1, lost=False)
    machine.dispatch(machine.helds[4], 9, lost=True)
    assert machine.job(machine.helds[4]).state == "queued"
    for n in range(1, 4):
        machine.requeue(machine.helds[n], "broken", 0.0, lost=False)
    machine.claim("w1", 1, lost=False)
    machine.dispatch(machine.helds[5], 9, lost=True)
    assert (machine.seen["budget"], machine.seen["budget_wait"]) == (before[0] + 1, before[1] + 1)
    machine.finish(machine.helds[5], "failed", 0, [], lost=True)
