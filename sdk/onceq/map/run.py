"""One map from its first row to its last, as a flow without I/O that both clients drive (`_drive.py`).

It yields calls (and is sent what became of each), the batch's stream (and is sent its next event, None when it is at
its end), and rows that are done. At most WINDOW rows are in flight, posted a thousand at a time; one stream tells all
of their ends. What is sent is remembered before it leaves, so that another run goes on from there.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, Final
from uuid import uuid4

from onceq._follow import StreamEvent
from onceq._http import PATIENT, Call, exchange, problem_error, read
from onceq._submission import Pack
from onceq.errors import BadRequestError
from onceq.map.allowance import Allowance
from onceq.map.asks import Ask, RequestTemplate
from onceq.map.cache import Cache, Outcome
from onceq.map.ends import Ends
from onceq.map.intake import OWED, Filled, Intake
from onceq.map.money import MapBudget, dollars
from onceq.map.row import MapRow, gone, outcome_of
from onceq.map.scope import SIMULATED, Contact, Scope, scope_of
from onceq.wire import MAX_BATCH, MAX_BODY_BYTES, TERMINAL, BatchAnswer, BatchAnswerItem, Event, Problem, SubmittedJob

WINDOW: Final = 10 * MAX_BATCH
"""Rows in flight at most: some seconds' work for many workers, some tens of megabytes for the service's Redis."""
SAVE_S: Final = 0.2
SAVE_ROWS: Final = 200
"""Outcomes are written to the cache when one of these is reached, and at the end."""
BUSY: Final = frozenset({429, 503})
BUSY_S: Final = 2.0
FATAL: Final = frozenset({"unauthorized", "forbidden", "unknown_model", "provider_not_served", "unpriced_model"})
"""What is wrong with every row of a map, so that it ends the map."""
LARGEST_ITEM: Final = MAX_BODY_BYTES - 256
MOST_ATTEMPTS: Final = 100
"""Failed attempts of earlier runs that are passed over in search of one that is not there yet."""

Steps = Generator[Call | Ends | list[MapRow], Any, None]


class Run:
    """The state of a map."""

    def __init__(
        self, models: Sequence[str], template: RequestTemplate, intake: Intake, budget: MapBudget, cache: Cache,
        contact: Contact, shape: Callable[[int, Outcome], MapRow], tell: Callable[[Run], None],
    ) -> None:  # fmt: skip
        self.batch = f"map-{uuid4().hex[:16]}"
        self.waiting: dict[str, list[Ask]] = {}
        """Asks in flight, by job."""
        self.unanswered = 0
        """Asks that were sent, and may have become jobs without an answer of the service that says so."""
        self.done = self.failed = self.left_out = 0
        """Rows that are filled, those of them without an answer, and those that `max_cost_usd` or `sample` left out."""
        self.remembered = 0
        """Rows that were filled without asking the service."""
        self.budget, self.intake = budget, intake
        self.simulated = False
        self._models, self._template, self._cache = models, template, cache
        self._allowance = Allowance(template, budget, contact.backoff)
        self._shape, self._progress = shape, tell
        self._ends = Ends(self.batch)
        self._ready: deque[Ask] = deque()
        self._unsaved: list[tuple[bytes, Outcome]] = []
        self._saved_at = 0.0
        self._pause_s = 0.0
        self._scope = Scope()
        self._contact = contact
        self._backoff = contact.backoff

    @property
    def in_flight(self) -> int:
        """What goes on at the service when the map is left, as far as is known."""
        return len(self.waiting) + self.unanswered

    def steps(self) -> Steps:
        """The whole map."""
        try:
            if self._cache.where is not None:
                self._scope = yield from scope_of(self._models, self._contact, self._cache)
                self.simulated = self._scope.name.endswith(SIMULATED)
                if self._scope.silence is None:
                    self._met()
            while True:
                yield from self._fill()
                if self.waiting:
                    yield from self._listen()
                elif not self._ready:
                    return
        finally:
            self._save()

    def _met(self) -> None:
        """The service is there: what interrupts it from now on is waited out."""
        self._backoff = self._allowance.backoff = PATIENT

    def _fill(self) -> Steps:
        """Posts what may be in flight now."""
        while len(self.waiting) <= WINDOW - MAX_BATCH and not (self._pause_s and self.waiting):
            yield from self._take()
            asks = list(islice(self._ready, MAX_BATCH))
            if not asks:
                return
            if self._scope.silence is not None:
                raise self._scope.silence
            count = yield from self._allowance.admit(asks, len(self.waiting))
            if count:
                yield from self._post([self._ready.popleft() for _ in range(count)])
            elif self.waiting:
                return
            else:
                yield from self._leave_out()

    def _take(self) -> Steps:
        """Reads rows until there is something to ask; with a limit all of them, as what is paid already counts."""
        while not self.intake.exhausted and (not self._ready or self.budget.limit is not None):
            taken = self.intake.take(self._scope.name, MAX_BATCH)
            self._ready.extend(taken.asks)
            for _, outcome in taken.filled:
                self.budget.settle(0, outcome.cost_nano_usd, sampled=bool(outcome.cost_nano_usd))
            self.remembered += sum(outcome.status != "not_posted" for _, outcome in taken.filled)
            yield from self._tell(taken.filled)

    def _leave_out(self) -> Steps:
        """What the limit does not allow any more."""
        why = (
            f"max_cost_usd: the rows so far cost {dollars(self.budget.spent)}, and another one might pass the limit. "
            "Raise it, or set a lower max_tokens, and run again: what is done is not paid again."
        )
        while self._ready:
            yield from self._tell(self.intake.finish(self._ready.popleft(), Outcome("not_posted", error=why)))

    def _post(self, asks: Sequence[Ask]) -> Steps:
        sent, items = self._encoded(asks)
        self._cache.sent(self._scope.name, [(ask.key, ask.generation, ask.attempt) for ask, _ in sent if ask.create])
        if sent:
            call = replace(Pack(tuple(item for _, item in sent), self.batch).call, after_s=self._pause_s)
            self.unanswered = len(sent)
            answer = read(BatchAnswer.model_validate_json, (yield from exchange(call, self._backoff)))
            self._pause_s = 0.0
            self._met()
            items += self._answered([ask for ask, _ in sent], answer.items)
            self.unanswered = 0
        yield from self._tell(items)

    def _encoded(self, asks: Sequence[Ask]) -> tuple[list[tuple[Ask, bytes]], list[Filled]]:
        """Those of the asks that fit into one post; others go back. Rows that no post could carry are filled."""
        sent: list[tuple[Ask, bytes]] = []
        filled: list[Filled] = []
        size = 0
        for n, ask in enumerate(asks):
            try:
                item = self._template.item(ask)
            except BadRequestError as exc:
                filled += self._close(ask, Outcome("refused", error=str(exc)), keep=False)
                continue
            if len(item) > LARGEST_ITEM:
                much = f"the request has {len(item)} bytes, and the service takes {MAX_BODY_BYTES}. Nothing was sent."
                filled += self._close(ask, Outcome("refused", error=much), keep=False)
                continue
            size += len(item) + 1
            if size > LARGEST_ITEM:
                self._put_back(asks[n:])
                break
            sent.append((ask, item))
        return sent, filled

    def _answered(self, asks: Sequence[Ask], items: Sequence[BatchAnswerItem]) -> list[Filled]:
        placed = [(ask, item.job) for ask, item in zip(asks, items, strict=True) if item.job is not None]
        refused = [(ask, item.problem) for ask, item in zip(asks, items, strict=True) if item.problem is not None]
        self._cache.accepted(self._scope.name, [(ask.key, job.id) for ask, job in placed])
        self._cache.forget(self._scope.name, [ask.key for ask, _ in refused if ask.create])
        filled = [row for ask, job in placed for row in self._placed(ask, job)]
        return filled + [row for ask, problem in refused for row in self._refused(ask, problem)]

    def _placed(self, ask: Ask, job: SubmittedJob) -> Sequence[Filled]:
        self.simulated |= job.simulated
        if job.status not in TERMINAL:
            if job.quote is not None and job.quote.cost.upper_nano_usd is not None:
                self.budget.reserve(job.quote.cost.upper_nano_usd - ask.bound)
                ask.bound = job.quote.cost.upper_nano_usd
            self.waiting.setdefault(job.id, []).append(ask)
            return ()
        if job.status in OWED and ask.attempt < MOST_ATTEMPTS and self.intake.retries:
            ask.attempt, ask.create = ask.attempt + 1, True
            self._put_back([ask])
            return ()
        return self._close(ask, outcome_of(job.id, job.status, job.output, job.usage, job.cost, job.timings, job.error))

    def _refused(self, ask: Ask, problem: Problem) -> Sequence[Filled]:
        if problem.status in BUSY:
            self._pause_s = BUSY_S
            self._put_back([ask])
            return ()
        if problem.code in FATAL:
            raise problem_error(problem)
        if problem.code == "job_not_found":
            return self._close(ask, gone(ask.job_id), keep=False)
        return self._close(ask, Outcome("refused", error=f"{problem.detail} [{problem.code}]"), keep=False)

    def _listen(self) -> Steps:
        event: StreamEvent | None = yield self._ends
        if event is not None:
            yield from self._tell(self._ended(event.data))
            return
        # all jobs of the batch have ended, and these were not told of (a job is in 32 batches at most): ask for them
        self._ends.again()
        asks = [ask for held in self.waiting.values() for ask in held]
        self.waiting.clear()
        for ask in asks:
            ask.create = False
        self._put_back(asks)

    def _ended(self, end: Event) -> list[Filled]:
        asks = self.waiting.pop(end.job, ())
        if not asks:
            return []
        outcome = gone(end.job)
        if end.cost is not None:
            outcome = outcome_of(
                end.job, end.status or "failed", end.output, end.usage, end.cost, end.timings, end.error
            )
        first, *others = asks  # different questions to this map, that the service has found to be one
        free = replace(outcome, cost_nano_usd=0) if outcome.cost_nano_usd else outcome
        filled = self._close(first, outcome)
        return filled + [row for ask in others for row in self._close(ask, free)]

    def _close(self, ask: Ask, outcome: Outcome, *, keep: bool = True) -> list[Filled]:
        self.budget.settle(ask.bound, outcome.cost_nano_usd, sampled=keep)
        if keep:
            self._unsaved.append((ask.key, outcome))
        return self.intake.finish(ask, outcome)

    def _put_back(self, asks: Sequence[Ask]) -> None:
        for ask in reversed(asks):
            self.budget.reserve(-ask.bound)
            ask.bound = 0
            self._ready.appendleft(ask)

    def _tell(self, filled: Sequence[Filled]) -> Steps:
        if filled:
            rows = [self._shape(slot, outcome) for slot, outcome in filled]
            self.done += len(rows)
            self.failed += sum(row.status not in ("succeeded", "not_posted") for row in rows)
            self.left_out += sum(row.status == "not_posted" for row in rows)
            self._progress(self)
            yield rows
        if len(self._unsaved) >= SAVE_ROWS or time.monotonic() - self._saved_at > SAVE_S:
            self._save()

    def _save(self) -> None:
        if self._unsaved:
            self._cache.done(self._scope.name, self._unsaved)
            self._unsaved = []
        self._saved_at = time.monotonic()
