"""Rows become asks: each distinct question once, with what is remembered of it. No I/O beside the local cache."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Final

from onceq.map.asks import Ask, RequestTemplate
from onceq.map.cache import Cache, CacheEntry, Outcome
from onceq.map.rows import PromptSource, RowProblem, Source, prompt_of
from onceq.wire import TERMINAL

ARRIVES_S: Final = 12 * 3600.0
"""A row that was sent, and whose answer never came, is sent again as it was; after this long the service may have
forgotten its key, and it is only asked for."""
OWED: Final = TERMINAL - {"succeeded"}
"""Ends without an answer: such a row is asked again."""

Filled = tuple[int, Outcome]
"""A row of the result by its number, and what it is filled with."""


@dataclass(slots=True)
class IntakeOptions:
    """How a map asks."""

    prompt: PromptSource | None
    n: int = 1
    generation: str = ""
    """Not empty: new samples are wanted, whatever is remembered."""
    retry_failed: bool = True
    only: frozenset[int] | None = None
    """Positions that may be asked; None: all."""


@dataclass(slots=True)
class Taken:
    """What some rows came to: those that are filled already, and what has to be asked for the others."""

    filled: list[Filled] = field(default_factory=list[Filled])
    asks: list[Ask] = field(default_factory=list[Ask])


class Intake:
    """Walks the rows once, in their order."""

    def __init__(self, source: Source, template: RequestTemplate, options: IntakeOptions, cache: Cache) -> None:
        self._rows: Iterator[tuple[int, tuple[Any, Any]]] = enumerate(iter(source))
        self._template, self._options, self._cache = template, options, cache
        self._open: dict[bytes, Ask] = {}
        self._done: dict[bytes, Outcome] = {}
        self.labels: list[Any] = []
        """Of the rows so far."""
        self.exhausted = False
        self.left_out = 0
        """Distinct asks that a sample does without."""
        self.retries = options.retry_failed

    @property
    def slots(self) -> int:
        """Rows of the result so far."""
        return len(self.labels) * self._options.n

    def to_pay(self, total: int) -> int:
        """About how many answers are still to come of so many rows, when equal rows are as frequent as so far."""
        distinct = len(self._open) + len(self._done) + self.left_out
        unread = max(0, total - self.slots)
        return len(self._open) + self.left_out + (round(unread * distinct / self.slots) if self.slots else unread)

    def take(self, scope: str, count: int) -> Taken:
        """The next rows, at most so many."""
        taken, fresh = Taken(), list[Ask]()
        rows = list(islice(self._rows, max(1, count // self._options.n)))
        self.exhausted = not rows
        for position, (label, row) in rows:
            self.labels.append(label)
            for sample in range(self._options.n):
                self._place(row, position * self._options.n + sample, sample, taken, fresh)
        self._remember(scope, fresh, taken)
        return taken

    def finish(self, ask: Ask, outcome: Outcome) -> list[Filled]:
        """The rows that an ask's outcome fills."""
        self._open.pop(ask.key, None)
        self._done[ask.key] = outcome
        return shared(ask.slots, outcome)

    def _place(self, row: Any, slot: int, sample: int, taken: Taken, fresh: list[Ask]) -> None:
        try:
            prompt = prompt_of(row, self._options.prompt)
            key = self._template.content_key(prompt, sample)
        except (RowProblem, ValueError) as exc:  # pydantic's, of a value that JSON has no form for, is one
            taken.filled.append((slot, Outcome("skipped", error=str(exc))))
            return
        if key in self._done:
            taken.filled.append((slot, replace(self._done[key], cost_nano_usd=0)))
        elif key in self._open:
            self._open[key].slots.append(slot)
        else:
            ask = self._open[key] = Ask(key, prompt, sample, [slot], self._options.generation)
            fresh.append(ask)

    def _remember(self, scope: str, fresh: Sequence[Ask], taken: Taken) -> None:
        asked = [] if self._options.generation else [ask.key for ask in fresh]
        known = self._cache.get(scope, asked)
        for ask in fresh:
            outcome = self._recall(ask, known.get(ask.key))
            if outcome is not None:
                taken.filled += self.finish(ask, outcome)
            elif self._left_out(ask, asked_before=ask.key in known):
                del self._open[ask.key]
                self.left_out += 1
                taken.filled += [(slot, Outcome("not_posted")) for slot in ask.slots]
            else:
                taken.asks.append(ask)

    def _recall(self, ask: Ask, known: CacheEntry | None) -> Outcome | None:
        """What is remembered as the ask's outcome; None when it has to be asked, as it was or for the next time."""
        if known is None:
            return None
        ask.generation, ask.attempt, ask.job_id = known.generation, known.attempt, known.job_id
        if known.outcome is None:
            ask.create = known.job_id is None and time.time() - known.sent_at < ARRIVES_S
            return None
        if known.outcome.status in OWED and self._options.retry_failed:
            ask.attempt += 1
            return None
        return known.outcome

    def _left_out(self, ask: Ask, *, asked_before: bool) -> bool:
        only = self._options.only
        return only is not None and not asked_before and not any(slot // self._options.n in only for slot in ask.slots)


def shared(slots: Sequence[int], outcome: Outcome) -> list[Filled]:
    """Every row gets the answer, the first one its cost: the column's sum is what was paid."""
    free = replace(outcome, cost_nano_usd=0) if len(slots) > 1 and outcome.cost_nano_usd else outcome
    return [(slot, free if n else outcome) for n, slot in enumerate(slots)]
