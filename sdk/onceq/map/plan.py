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
from onceq.map.asks import Template
from onceq.map.cache import Cache, Outcome, open_cache
from onceq.map.intake import Intake, Settings
from onceq.map.leaving import Became, kind, left
from onceq.map.money import Purse, dollars
from onceq.map.output import Output, Schema, output_of
from onceq.map.progress import Bar, NoProgress, progress_for
from onceq.map.quote import MapQuote, quoted
from onceq.map.row import MapRow, row_of
from onceq.map.rows import Source, source_of, spread
from onceq.map.rows import Template as Prompting
from onceq.map.run import Run
from onceq.map.scope import Contact

if TYPE_CHECKING:
    import pandas as pd

MOST_SAMPLES: Final = 1_000
_BOOLS: Final = frozenset({"bool", "bool_"})
"""What Python's own truth value and numpy's are called. A text is true whatever it says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """The arguments of `Client.map`, as they were given."""

    rows: Any
    prompt: Prompting | None
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

    def __init__(self, wish: Wish, contact: Contact, *, frames: bool) -> None:
        _check(wish)
        self._wish, self._contact = wish, contact
        self.source = _source(wish)
        if frames:
            frame.needs(self.source)
        self.output: Output = output_of(wish.output)
        given = {key: value for key, value in wish.options.items() if value is not None}
        fields = settled({"model": wish.model, **given, **self.output.fields})
        checked_request({**fields, "prompt": "?"})
        self._models = [wish.model] if isinstance(wish.model, str) else list(wish.model or ())
        self._template = Template(wish.name, fields)
        self.purse = Purse(wish.max_cost_usd)
        self.sample = wish.sample
        self.cancels = wish.on_interrupt == "cancel"

    @property
    def rows(self) -> int | None:
        """Rows of the result, where that is known."""
        return None if self.source.total is None else self.source.total * self._wish.n

    def start(self) -> Running:
        """Opens the cache and the bar. Raises ConfigurationError."""
        cache = open_cache(self._wish.cache)
        try:
            bar = self._bar()
        except ConfigurationError:
            cache.close()
            raise
        intake = self._intake(cache)

        def shape(slot: int, outcome: Outcome) -> MapRow:
            position, sample = divmod(slot, self._wish.n)
            return row_of(intake.labels[position], position, sample, outcome, self.output)

        run = Run(self._models, self._template, intake, self.purse, cache, self._contact, shape, bar.show)
        return Running(self, run, cache, bar)

    def _bar(self) -> Bar | NoProgress:
        told, counted = self._wish.progress, self.sample is not None
        if isinstance(told, str):
            return progress_for(None, self.rows, told, counted=counted)
        return progress_for(told, self.rows, self._wish.name, counted=counted)

    def quote(self, cache: Cache) -> Flow[MapQuote]:
        """What it would cost."""
        return quoted(self._models, self._template, self._intake(cache), cache, self._contact)

    def open_cache(self) -> Cache:
        """The cache that was asked for. Raises ConfigurationError."""
        return open_cache(self._wish.cache)

    def frame(self, rows: list[MapRow]) -> pd.DataFrame:
        """The rows in their order, as a frame."""
        rows.sort(key=lambda row: (row.position, row.sample))
        return frame.frame_of(rows, self.source, self.output, self._wish.n)

    def _intake(self, cache: Cache) -> Intake:
        wish, total = self._wish, self.source.total
        only = spread(total, wish.sample) if wish.sample is not None and total else None
        generation = uuid4().hex[:12] if wish.fresh else ""
        settings = Settings(wish.prompt, wish.n, generation, wish.retry_failed, only)
        return Intake(self.source, self._template, settings, cache)


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

    def left(self, how: str, became: Became = None, *, awaited: bool) -> str:
        """What an interrupted cell says: what is there, what goes on, how to end it, how to come back."""
        total = "" if self.plan.rows is None else f" of {self.plan.rows}"
        return left(self.run, f"{how}: {self.run.done}{total} rows are here", became, awaited=awaited)

    def forecast(self) -> str | None:
        """What a sample says about the whole; None where there was none to take."""
        rows, sample = self.plan.rows, self.plan.sample
        if rows is None or sample is None:
            return None
        told = self.run.purse.forecast(self.run.intake.to_pay(rows))
        asked = self.run.done - self.run.left_out
        here = f"Sample: {asked} of {rows} rows, {dollars(self.run.purse.spent)}{kind(self.run)}."
        if told is None:
            return f"{here} That is too few to say what all of them cost."
        return f"{here} All {rows}: {told}.\nRun again without sample= to go on; these are not paid again."


def say(words: str | None) -> None:
    """Prints a sentence below the cell, on a line of its own."""
    if words:
        sys.stdout.write(f"{plain(words)}\n")
        sys.stdout.flush()


def _source(wish: Wish) -> Source:
    """The rows. Raises BadRequestError where they may be endless, and all are needed before the first is posted."""
    source = source_of(wish.rows, wish.prompt)
    if wish.sample is not None:
        source = source.kept()
    if wish.max_cost_usd is not None and source.total is None:
        raise refusal(
            "max_cost_usd needs all rows before the first is posted, since what they have cost before counts, and "
            f"{type(wish.rows).__name__!r} has no length: pass a list of the rows."
        )
    return source


def _check(wish: Wish) -> None:
    checked_model(wish.model)
    if not isinstance(wish.n, Integral) or not 1 <= wish.n <= MOST_SAMPLES:
        raise refusal(f"n is how many answers each row gets, 1 to {MOST_SAMPLES}, not {wish.n!r}.")
    if wish.sample is not None and (not isinstance(wish.sample, Integral) or wish.sample < 1):
        raise refusal(f"sample is how many rows to run first, at least 1, not {wish.sample!r}.")
    limit = wish.max_cost_usd
    if limit is not None and not (isinstance(limit, Real) and 0 < limit <= 1_000_000):
        raise refusal(f"max_cost_usd is dollars, above 0 and at most 1,000,000, not {limit!r}.")
    for name, value in (("fresh", wish.fresh), ("retry_failed", wish.retry_failed)):
        if type(value).__name__ not in _BOOLS:
            raise refusal(f"{name} is True or False, not {value!r}.")
    if wish.on_interrupt not in ("detach", "cancel"):
        raise refusal(f"on_interrupt is 'detach' or 'cancel', not {wish.on_interrupt!r}.")
    if not wish.name:
        raise refusal("a map needs a name, or none at all for the usual one.")
