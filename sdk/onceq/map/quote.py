"""What a map would cost, told before it runs: nothing is posted."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from onceq._display import note_html
from onceq._http import Backoff, Call, Flow
from onceq.map.allowance import quote_of
from onceq.map.asks import Ask, RequestTemplate
from onceq.map.cache import Cache
from onceq.map.intake import Intake
from onceq.map.money import dollars, usd
from onceq.map.scope import Contact, Scope, scope_of
from onceq.wire import MAX_BATCH, NANO, Quote

MOST_QUOTES: Final = 20
"""Requests that are quoted: the longest of as many groups of like length. Each stands for its group, from above."""


@dataclass(frozen=True, slots=True)
class MapQuote:
    """What a map would do: `rows` in all, `done` that are answered already, `asks`: distinct requests to be posted.

    `upper_nano_usd` is never passed by those asks, all their calls together; None where nothing bounds them, and
    `unbounded` says why. `expected_nano_usd` goes by your tenant's answers of the model in the last day; None where
    there were none. In both, a group of rows of like length counts as its longest. `paid_nano_usd` is what the answers
    cost that are there. Rows that another machine has asked count as asks here; they are found when the map runs.
    """

    rows: int
    done: int
    asks: int
    upper_nano_usd: int | None
    expected_nano_usd: int | None
    paid_nano_usd: int
    unbounded: str | None = None

    @property
    def upper_usd(self) -> float | None:
        """`upper_nano_usd` in US dollars, as `max_cost_usd` takes them."""
        return usd(self.upper_nano_usd)

    @property
    def expected_usd(self) -> float | None:
        """`expected_nano_usd` in US dollars."""
        return usd(self.expected_nano_usd)

    @property
    def paid_usd(self) -> float:
        """`paid_nano_usd` in US dollars."""
        return self.paid_nano_usd / NANO

    def __str__(self) -> str:
        upper = "not bounded" if self.upper_nano_usd is None else f"at most {dollars(self.upper_nano_usd)}"
        likely = "" if self.expected_nano_usd is None else f", about {dollars(self.expected_nano_usd)} expected"
        why = f" ({self.unbounded})" if self.unbounded else ""
        there = f"{self.done} of {self.rows} rows are answered already. " if self.done else f"{self.rows} rows. "
        return f"{there}{self.asks} requests would be posted: {upper}{why}{likely}."

    def _repr_html_(self) -> str:
        return note_html(str(self))


def quote_map(
    models: Sequence[str], template: RequestTemplate, intake: Intake, cache: Cache, contact: Contact
) -> Flow[MapQuote]:
    """Reads all rows, and asks for some quotes."""
    scope = (yield from scope_of(models, contact, cache)) if cache.where is not None else Scope()
    asks: list[Ask] = []
    done = paid = 0
    while not intake.exhausted:
        taken = intake.take(scope.name, MAX_BATCH)
        asks += taken.asks
        done += sum(outcome.status == "succeeded" for _, outcome in taken.filled)
        paid += sum(outcome.cost_nano_usd or 0 for _, outcome in taken.filled)
    upper, expected, why = yield from _sums(template, asks, contact.backoff)
    return MapQuote(intake.slots, done, len(asks), upper, expected, paid, why)


def _sums(
    template: RequestTemplate, asks: Sequence[Ask], backoff: Backoff
) -> Generator[Call, Any, tuple[int | None, int | None, str | None]]:
    """The upper bound and what is expected, of all; each None when it is of any."""
    upper: int | None = 0
    expected: int | None = 0
    why: str | None = None
    ordered = sorted(asks, key=lambda ask: len(str(ask.prompt).encode()))
    for group in _groups(ordered):
        quote: Quote = yield from quote_of(template, group[-1], backoff)
        upper, expected = (
            None if known is None or each is None else known + each * len(group)
            for known, each in ((upper, quote.cost.upper_nano_usd), (expected, quote.cost.expected_nano_usd))
        )
        why = why or quote.cost.unbounded
    return upper, expected, why


def _groups(asks: Sequence[Ask]) -> list[Sequence[Ask]]:
    size = max(1, -(-len(asks) // MOST_QUOTES))
    return [asks[start : start + size] for start in range(0, len(asks), size)]
