"""A map as it was asked for, checked before anything is sent: what both clients build, and drive."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from onceq._display import plain
from onceq._http import Flow, refusal
from onceq._submission import Models, checked_model, checked_request, settled
from onceq.errors import ConfigurationError
from onceq.map import frame
from onceq.map.asks import RequestTemplate
from onceq.map.cache import Cache, Outcome, open_cache
from onceq.map.intake import Intake, IntakeOptions
from onceq.map.interrupt import CancelResult, kind, left
from onceq.map.money import MapBudget, dollars
from onceq.map.output import Output, Schema, output_of
from onceq.map.progress import Bar, NoProgress, progress_for
from onceq.map.quote import MapQuote, quote_map
from onceq.map.row import MapRow, row_of
from onceq.map.rows import PromptSource, Source, source_of, spread
from onceq.map.run import Run
from onceq.map.scope import Contact

if TYPE_CHECKING:
    import pandas as pd

MOST_SAMPLES: Final = 1_000
_BOOLS: Final = frozenset({"bool", "bool_"})
"""What Python's own truth value and numpy's are called. A text is true whatever it says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapArguments:
    """The arguments of `Client.map`, as they were given."""

    rows: Any
    prompt: PromptSource | None
    model: Models | None
    output: Schema | None
    name: str
    n: int
    fresh: bool
    retry_failed: bool
    sample: int | None
    max_cost_usd: float | None
    cache: bool | str | Path
    progress: bool | str | None
    on_interrupt: str
    options: Mapping[str, Any]


class Plan:
    """One map. Raises BadRequestError or ConfigurationError for what can't be one; nothing was sent then."""

    def __init__(self, arguments: MapArguments, contact: Contact, *, frames: bool) -> None:
        _check(arguments)
        self._arguments, self._contact = arguments, contact
        self.source = _source(arguments)
        if frames:
            frame.needs(self.source)
        self.output: Output = output_of(arguments.output)
        given = {key: value for key, value in arguments.options.items() if value is not None}
        fields = settled({"model": arguments.model, **given, **self.output.fields})
        checked_request({**fields, "prompt": "?"})
        self._models = [arguments.model] if isinstance(arguments.model, str) else list(arguments.model or ())
        self._template = RequestTemplate(arguments.name, fields)
        self.budget = MapBudget(arguments.max_cost_usd)
        self.sample = arguments.sample
        self.cancels = arguments.on_interrupt == "cancel"

    @property
    def rows(self) -> int | None:
        """Rows of the result, where that is known."""
        return None if self.source.total is None else self.source.total * self._arguments.n

    def start(self) -> Running:
        """Opens the cache and the bar. Raises ConfigurationError."""
        cache = open_cache(self._arguments.cache)
        try:
            bar = self._bar()
        except ConfigurationError:
            cache.close()
            raise
        intake = self._intake(cache)

        def shape(slot: int, outcome: Outcome) -> MapRow:
            position, sample = divmod(slot, self._arguments.n)
            return row_of(intake.labels[position], position, sample, outcome, self.output)

        run = Run(self._models, self._template, intake, self.budget, cache, self._contact, shape, bar.show)
        return Running(self, run, cache, bar)

    def _bar(self) -> Bar | NoProgress:
        told, counted = self._arguments.progress, self.sample is not None
        if isinstance(told, str):
            return progress_for(None, self.rows, told, counted=counted)
        return progress_for(told, self.rows, self._arguments.name, counted=counted)

    def quote(self, cache: Cache) -> Flow[MapQuote]:
        """What it would cost."""
        return quote_map(self._models, self._template, self._intake(cache), cache, self._contact)

    def open_cache(self) -> Cache:
        """The cache that was asked for. Raises ConfigurationError."""
        return open_cache(self._arguments.cache)

    def frame(self, rows: list[MapRow]) -> pd.DataFrame:
        """The rows in their order, as a frame."""
        rows.sort(key=lambda row: (row.position, row.sample))
        return frame.frame_of(rows, self.source, self.output, self._arguments.n)

    def _intake(self, cache: Cache) -> Intake:
        arguments, total = self._arguments, self.source.total
        only = spread(total, arguments.sample) if arguments.sample is not None and total else None
        generation = uuid4().hex[:12] if arguments.fresh else ""
        options = IntakeOptions(arguments.prompt, arguments.n, generation, arguments.retry_failed, only)
        return Intake(self.source, self._template, options, cache)


@dataclass(frozen=True, slots=True)
class Running:
    """A map that has begun: its flow, and what is to be closed behind it."""

    plan: Plan
    run: Run
    cache: Cache
    bar: Bar | NoProgress

    def close(self) -> None:
        """Leaves bar and cache."""
        self.bar.close()
        self.cache.close()

    @property
    def cancels(self) -> bool:
        """Whether who leaves now wanted the rest to be cancelled, and there is any."""
        return self.plan.cancels and self.run.in_flight > 0

    def left(self, how: str, cancel_result: CancelResult = None, *, awaited: bool) -> str:
        """What an interrupted cell says: what is there, what goes on, how to end it, how to come back."""
        total = "" if self.plan.rows is None else f" of {self.plan.rows}"
        return left(self.run, f"{how}: {self.run.done}{total} rows are here", cancel_result, awaited=awaited)

    def forecast(self) -> str | None:
        """What a sample says about the whole; None where there was none to take."""
        rows, sample = self.plan.rows, self.plan.sample
        if rows is None or sample is None:
            return None
        told = self.run.budget.forecast(self.run.intake.to_pay(rows))
        asked = self.run.done - self.run.left_out
        here = f"Sample: {asked} of {rows} rows, {dollars(self.run.budget.spent)}{kind(self.run)}."
        if told is None:
            return f"{here} That is too few to say what all of them cost."
        return f"{here} All {rows}: {told}.\nRun again without sample= to go on; these are not paid again."


def say(words: str | None) -> None:
    """Prints a sentence below the cell, on a line of its own."""
    if words:
        sys.stdout.write(f"{plain(words)}\n")
        sys.stdout.flush()


def _source(arguments: MapArguments) -> Source:
    """The rows. Raises BadRequestError where they may be endless, and all are needed before the first is posted."""
    source = source_of(arguments.rows, arguments.prompt)
    if arguments.sample is not None:
        source = source.kept()
    if arguments.max_cost_usd is not None and source.total is None:
        raise refusal(
            "max_cost_usd needs all rows before the first is posted, since what they have cost before counts, and "
            f"{type(arguments.rows).__name__!r} has no length: pass a list of the rows."
        )
    return source


def _check(arguments: MapArguments) -> None:
    checked_model(arguments.model)
    if not isinstance(arguments.n, Integral) or not 1 <= arguments.n <= MOST_SAMPLES:
        raise refusal(f"n is how many answers each row gets, 1 to {MOST_SAMPLES}, not {arguments.n!r}.")
    if arguments.sample is not None and (not isinstance(arguments.sample, Integral) or arguments.sample < 1):
        raise refusal(f"sample is how many rows to run first, at least 1, not {arguments.sample!r}.")
    limit = arguments.max_cost_usd
    if limit is not None and not (isinstance(limit, Real) and 0 < limit <= 1_000_000):
        raise refusal(f"max_cost_usd is dollars, above 0 and at most 1,000,000, not {limit!r}.")
    for name, value in (("fresh", arguments.fresh), ("retry_failed", arguments.retry_failed)):
        if type(value).__name__ not in _BOOLS:
            raise refusal(f"{name} is True or False, not {value!r}.")
    if arguments.on_interrupt not in ("detach", "cancel"):
        raise refusal(f"on_interrupt is 'detach' or 'cancel', not {arguments.on_interrupt!r}.")
    if not arguments.name:
        raise refusal("a map needs a name, or none at all for the usual one.")
