"""The showroom's month as it goes by: posts, workers and cancels, each of them the store's own script at its time.

Nothing is written but what a script writes; provider.py and the product's own retry decide what becomes of a try.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Final

from onceq.wire import TERMINAL
from onceq_service.providers.base import ProviderError
from onceq_service.showroom.admission import AdmissionBuilder
from onceq_service.showroom.incidents import Incident
from onceq_service.showroom.live import LiveJob, answer_of, cancelled_end, failed_end, unsent_end, whole_end
from onceq_service.showroom.money import Prices
from onceq_service.showroom.plan import Post
from onceq_service.showroom.provider import course
from onceq_service.showroom.timeline import Doing, Kind, Timeline
from onceq_service.store import Admission, BudgetRefused
from onceq_service.store.backfill import BackfillStore
from onceq_service.store.engine import Claim, Dispatched, End, Engine, Receipt
from onceq_service.worker.retry import Retry, RetryState, decide

Then = Callable[[], None]

WANT: Final = 8
"""Jobs that a worker takes at once, at most."""
MAX_TRIES: Final = 20
REPLAYED: Final = 0.75
"""Of the dead letters, those that somebody asks again some time later."""
PULSE_MS: Final = 1_000
"""How often an API process looks after leases, while a worker is lost."""
ACCEPT_MS: Final = (1, 1, 2, 2, 2, 3, 3, 5, 9)
"""From the post's last byte to its admission."""
LATE_MS: Final = 50
"""After a job's time is up it is looked at: it was accepted some ms after its post came."""
PIECES: Final = 6
"""Parts in which a recent answer arrives; of an older one the log has lapsed."""


class World:
    """What goes on. `slots` jobs run at once; from `recent_ms` on logs are still there when the month is over."""

    def __init__(
        self, store: BackfillStore, builder: AdmissionBuilder, prices: Prices, told: Sequence[Incident], slots: int,
        until: datetime, rng: random.Random,
    ) -> None:  # fmt: skip
        self._store, self._builder, self._prices, self._told, self._rng = store, builder, prices, told, rng
        self._time = Timeline(store)
        self._providers = sorted(builder.catalog.providers)
        self._until_ms = round(until.timestamp() * 1000)
        self._recent_ms = self._until_ms - 86_400_000
        self._slots = slots
        self._jobs: dict[str, LiveJob] = {}
        self._waiting: set[str] = set()
        self._look_ms: int | None = None
        self.posted = 0
        self.refused = 0
        self.now_ms = 0

    async def go(self, posts: Iterator[Post]) -> None:
        """Until every post was made and every job has ended."""
        self._next(posts)
        await self._time.run()

    def _next(self, posts: Iterator[Post]) -> None:
        post = next(posts, None)
        if post is not None:
            self._time.plan(post.at_ms, lambda at_ms: self._post(post, posts, at_ms))

    def _post(self, post: Post, posts: Iterator[Post], at_ms: int) -> Doing:
        self._next(posts)
        self.posted += 1
        self.now_ms = at_ms
        return self._asked(self._builder.admission(post, at_ms), post, at_ms)

    def _asked(self, asked: Admission, post: Post, at_ms: int) -> Doing:
        self._look_at(at_ms + 2)  # whatever becomes of it: the answer comes with the look
        return self._admit(asked, post, at_ms)

    async def _admit(self, asked: Admission, post: Post, at_ms: int) -> Then | None:
        try:
            admitted = await self._store.jobs.admit(asked, accept_ms=ACCEPT_MS[int(asked.id[-4:], 16) % len(ACCEPT_MS)])
        except BudgetRefused:  # its client was answered 402, and nothing was stored
            self.refused += 1
            return None
        return partial(self._created, asked, post, at_ms) if admitted.disposition == "created" else None

    def _created(self, asked: Admission, post: Post, at_ms: int) -> None:
        deadline_ms = at_ms + round(asked.deadline_s * 1000)
        job = self._jobs[asked.id] = LiveJob(asked.id, asked.tenant, post, deadline_ms)
        self._waits(job, at_ms)
        if post.cancel_ms is not None:
            self._time.plan(at_ms + post.cancel_ms, partial(self._cancel, job))
        if post.app.queue_s is not None:
            self._time.plan(at_ms + round(post.app.queue_s * 1000) + LATE_MS, partial(self._give_up, job), "answered")

    # what waits is looked for

    @property
    def _free(self) -> int:
        return self._slots - (len(self._jobs) - len(self._waiting))  # what does not wait has one

    def _waits(self, job: LiveJob, at_ms: int) -> None:
        job.turn += 1
        self._waiting.add(job.id)
        self._look_at(at_ms + 2)

    def _look_at(self, at_ms: int) -> None:
        if self._look_ms is None or at_ms < self._look_ms:
            self._look_ms = at_ms
            self._time.plan(at_ms, partial(self._look, at_ms), "answered")

    def _look(self, planned_ms: int, at_ms: int) -> Doing:
        if self._look_ms != planned_ms:
            return None
        self._look_ms = None
        return self._claim(at_ms) if self._free else None

    async def _claim(self, at_ms: int) -> Then:
        want = min(self._free, WANT)
        claims, wait_s = await self._store.engine.claim("showroom", want, self._providers)
        return partial(self._claimed, claims, wait_s, at_ms)

    def _claimed(self, claims: Sequence[Claim], wait_s: float, at_ms: int) -> None:
        for claim in claims:
            self._begin(claim, at_ms)
        if self._waiting and self._free:
            self._look_at(at_ms + (1 if claims else max(1, round(wait_s * 1000))))
        waiting = [self._jobs[name] for name in self._waiting]
        overdue = [job for job in waiting if job.deadline_ms + LATE_MS < at_ms]
        for job in sorted(overdue, key=lambda job: job.id):  # Redis has ended it, and nobody else would say so
            self._time.plan(at_ms, partial(self._give_up, job), "answered")

    def _begin(self, claim: Claim, at_ms: int) -> None:
        job = self._jobs[claim.id]
        self._waiting.discard(job.id)
        job.turn, job.claim, job.course = job.turn + 1, claim, None
        further = "budgets" in claim.fields and "holds" not in claim.fields  # it may have no room for this call
        called_ms = at_ms + self._rng.randrange(3, 18)
        kind: Kind = "answered" if further or called_ms + LATE_MS >= job.deadline_ms else "sent"
        self._time.plan(called_ms, partial(self._dispatch, job, job.turn), kind)

    def _leave(self, job: LiveJob, at_ms: int) -> None:
        del self._jobs[job.id]
        job.turn += 1
        if self._waiting:
            self._look_at(at_ms + 1)

    # a try

    def _engine(self, job: LiveJob) -> Engine:
        return self._store.engine if job.lost else self._store.lasting

    def _dispatch(self, job: LiveJob, turn: int, at_ms: int) -> Doing:
        claim = job.claim
        if job.turn != turn or claim is None:
            return None
        model = claim.text("model")
        job.course = course(model, job.post.tokens, at_ms, self._told, self._rng)
        job.begins(claim, at_ms, answer_of(job.post, job.course, self._rng), PIECES if at_ms >= self._recent_ms else 2)
        if job.pieces:
            self._time.plan(at_ms + job.course.first_ms, partial(self._append, job, turn))
        self._time.plan(at_ms + job.course.took_ms + self._rng.randrange(2, 12), partial(self._end, job, turn))
        return self._dispatched(job, claim, model, at_ms)

    async def _dispatched(self, job: LiveJob, claim: Claim, model: str, at_ms: int) -> Then | None:
        in_bytes, tries = len(claim.fields["request"]), claim.number("tries") + 1
        sent = await self._engine(job).dispatch(claim, tries, in_bytes, self._prices.recorded(model, at_ms))
        if sent.word in ("deadline", "budget", "budget_wait"):
            return partial(self._no_room, job, sent, at_ms)
        if sent.word != "ok":
            raise RuntimeError(f"job {job.id} should have been called at {at_ms}, and was not: {sent.word}")
        return None

    def _no_room(self, job: LiveJob, sent: Dispatched, at_ms: int) -> None:
        """A call has no time left, or no room in a budget: it waits for some, or there will be none in time."""
        job.is_not_called()
        self._time.plan(at_ms + 1, partial(self._not_called, job, job.turn, sent))

    def _not_called(self, job: LiveJob, turn: int, sent: Dispatched, at_ms: int) -> Doing:
        claim = job.claim
        if job.turn != turn or claim is None:
            return None
        if sent.word != "budget_wait":
            return self._finish(job, claim, unsent_end(job, claim, sent), at_ms)
        self._waits(job, at_ms)
        return self._store.lasting.defer(claim, int(sent.why["at"]))

    def _append(self, job: LiveJob, turn: int, at_ms: int) -> Doing:
        if job.turn != turn or job.claim is None or job.course is None:
            return None
        frame = job.says(job.claim, at_ms)
        if job.pieces and len(job.pieces) > 1:  # the last part goes with the end
            self._time.plan(at_ms + max(1, job.course.generation_ms // PIECES), partial(self._append, job, turn))
        return self._engine(job).append([frame])

    def _end(self, job: LiveJob, turn: int, at_ms: int) -> Doing:
        if job.turn != turn or job.claim is None or job.course is None:
            return None
        if job.lost:
            return self._crash(job, at_ms)
        if job.course.error is not None:
            return self._failed(job, job.claim, job.course.error, at_ms)
        model, in_bytes = job.claim.text("model"), len(job.claim.fields["request"])
        return self._finish(
            job,
            job.claim,
            whole_end(job, job.claim, self._prices.reported(model, at_ms, in_bytes, job.post.tokens)),
            at_ms,
        )

    def _finish(self, job: LiveJob, claim: Claim, end: End, at_ms: int) -> Doing:
        self._leave(job, at_ms)
        return self._finished(claim, end)

    async def _finished(self, claim: Claim, end: End) -> None:
        word, last = await self._store.lasting.finish(claim, end)
        if word != "ok":
            raise RuntimeError(f"the log of job {claim.id} ends at {last}, and its end does not fit")

    def _failed(self, job: LiveJob, claim: Claim, error: ProviderError, at_ms: int) -> Doing:
        receipt = self._part_paid(job, claim, error, at_ms)
        tries, calls = claim.number("tries") + 1, claim.number("calls") + 1
        state = RetryState(
            tries=tries, max_tries=MAX_TRIES, calls=calls, max_calls=claim.number("max_calls"),
            remaining_s=(claim.number("deadline_ms") - at_ms) / 1000, others=len(claim.text("chain").split()),
        )  # fmt: skip
        match decide(error, state, self._rng):
            case Retry() as again:
                self._waits(job, at_ms)
                return self._store.lasting.requeue(
                    claim, receipt, delay_s=again.delay_s, reason=error.code, brake_s=again.brake_s,
                    fallback=again.fallback, measured=job.course.measured if job.course else "",
                )  # fmt: skip
            case give_up:
                if self._rng.random() < REPLAYED:
                    later_ms = at_ms + self._rng.randrange(1_800_000, 21_600_000)
                    self._time.plan(later_ms, partial(self._replay, job))
                return self._finish(job, claim, failed_end(job, claim, error, receipt, give_up), at_ms)

    def _part_paid(self, job: LiveJob, claim: Claim, error: ProviderError | None, at_ms: int) -> Receipt:
        if error is not None and not error.may_be_billed:
            return Receipt(error.code, billed=False)
        outcome = error.code if error else "cancelled"
        return self._prices.estimated(outcome, claim.text("model"), at_ms, len(claim.fields["request"]), job.out_bytes)

    # what people and accidents do

    def _replay(self, job: LiveJob, at_ms: int) -> Doing:
        if at_ms > self._until_ms:
            return None
        return self._asked(self._builder.replay(job.id, job.post, at_ms), job.again(), at_ms)

    def _cancel(self, job: LiveJob, at_ms: int) -> Doing:
        if job.id not in self._jobs or job.lost:
            return None
        if job.id in self._waiting:
            self._waiting.discard(job.id)
            del self._jobs[job.id]
        else:
            job.turn += 1
            self._time.plan(at_ms + self._rng.randrange(60, 220), partial(self._let_go, job, job.turn))
        return self._store.jobs.cancel(job.id, job.tenant)

    def _let_go(self, job: LiveJob, turn: int, at_ms: int) -> Doing:
        claim = job.claim
        if job.turn != turn or claim is None:
            return None
        if job.course is None:
            return self._finish(job, claim, cancelled_end(job, claim, None), at_ms)
        job.stops(job.course, at_ms)
        return self._finish(job, claim, cancelled_end(job, claim, self._part_paid(job, claim, None, at_ms)), at_ms)

    async def _tend(self) -> None:
        await self._store.engine.tend()

    def _crash(self, job: LiveJob, at_ms: int) -> None:
        """Its worker is dead; the lease runs out while API processes look on, and another worker starts anew."""
        job.turn += 1
        end_ms = max(job.spoke_ms + self._store.lease_ms, at_ms + 12 * PULSE_MS)  # Redis trusts no look after a gap
        for look_ms in range(end_ms - 12 * PULSE_MS, end_ms + 2 * PULSE_MS, PULSE_MS):
            if look_ms > at_ms:
                self._time.plan(look_ms, lambda _: self._tend())
        self._time.plan(end_ms + 2 * PULSE_MS, partial(self._missed, job, job.turn), "answered")

    def _missed(self, job: LiveJob, turn: int, at_ms: int) -> Doing:
        return self._see(job, at_ms) if job.turn == turn else None

    def _give_up(self, job: LiveJob, at_ms: int) -> Doing:
        return self._see(job, at_ms) if job.id in self._waiting else None

    async def _see(self, job: LiveJob, at_ms: int) -> None:
        """Whether the passing of time has ended the job, or brought it back to the queue."""
        await self._tend()
        fields = await self._store.jobs.shown(job.id, job.tenant)
        state = fields["state"].decode() if fields else "lapsed"
        if state in TERMINAL or fields is None:
            self._waiting.discard(job.id)
            self._leave(job, at_ms)
        elif state == "queued" and job.id not in self._waiting:
            self._waits(job, at_ms)
