"""The steps of the state machine: everything that clients, workers and time do to a job, with lost answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from onceq_service.store import BudgetRefused, KeyReused, LeaseLost, scripts
from onceq_service.store._pipe import Arg
from onceq_service.store.engine import Claim, End, EndState, Receipt
from tests.faults.model import BOUND, ModelJob
from tests.faults.model_compare import BUDGET, LEASE_S, WORKERS, ModelComparison
from tests.faults.walk import Steps
from tests.service.store.driver import PRICES, admission, budget_line, text_frame

MOST_JOBS = 12
OF_A_CLAIM = ("dispatch", "append", "finish", "requeue", "release", "beat")
RECEIPTS = {
    "ok": Receipt("ok", billed=True, input_tokens=3, output_tokens=2, spent_nano_usd=7_000),
    "broken": Receipt("stream_broken", True, True, input_tokens=4, output_tokens=1, spent_nano_usd=6_500),
    "refused": Receipt("provider_rate_limited", billed=False),
}
lost = st.booleans()
which = st.runner().flatmap(lambda machine: st.sampled_from(machine.in_reach()))
texts = st.lists(st.text(min_size=1, max_size=4), max_size=2)
step = Steps()


@dataclass(frozen=True)
class Held:
    """A claim as its worker remembers it, for ever: most of them are stale after a while."""

    claim: Claim
    worker: str


class Scripts(ModelComparison):
    """Every step does the same to Redis and to the model, and compares what they answer."""

    def __init__(self) -> None:
        super().__init__()
        self.nonce = 0
        self.helds: list[Held] = []
        self.fences: set[str] = set()
        self.wishes: list[dict[str, Any]] = []

    @rule(data=st.data())
    def anything(self, data: st.DataObject) -> None:
        """Any step that is possible now."""
        step.take(self, [name for name in step.arguments if self.possible(name)], data)

    def possible(self, name: str) -> bool:
        if name in ("admit", "again"):
            return len(self.model.jobs) < MOST_JOBS and (name == "admit" or bool(self.wishes))
        if name == "cancel":
            return bool(self.model.jobs)
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
        self.wishes.append({
            "band": band, "idem": idem, "body": body, "fp": fp, "max_calls": max_calls, "on_crash": on_crash,
            "deadline_s": deadline_s, "budget": budget,
        })  # fmt: skip
        job_id = f"job_{len(self.model.jobs):032x}"
        wish: dict[str, Any] = {"idem": idem, "fp": fp, "max_calls": max_calls, "on_crash": on_crash, "band": band}
        lines = budget_line(BUDGET, BOUND, self.model.now) if budget else ""
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

    @step(n=st.integers(0, MOST_JOBS), lost=lost)
    def again(self, n: int, lost: bool) -> None:
        """What was asked for before, word for word: chance alone seldom joins a job."""
        self.admit(**self.wishes[n % len(self.wishes)], lost=lost)

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
        """What HeartbeatClient sends, on the connection that has the test's clock."""
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
    def housekeeping(self) -> None:
        self.tend()

    def in_reach(self) -> list[Held]:
        """Claims to choose from: those that hold their job three times as often as those that were lost."""
        return [held for held in self.helds if self.holds(held)] * 3 + self.helds

    def holds(self, held: Held) -> bool:
        return self.job(held).fence == held.claim.fence

    def job(self, held: Held) -> ModelJob:
        return self.model.jobs[held.claim.id]


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


def wish(deadline_s: float = 3600.0, max_calls: int = 3, budget: bool = False) -> dict[str, Any]:
    """What `admit` takes, for a job without key and fingerprint."""
    body: dict[str, Any] = {"band": "standard", "idem": "", "body": "b1", "fp": "", "on_crash": "retry"}
    return body | {"deadline_s": deadline_s, "max_calls": max_calls, "budget": budget, "lost": False}
