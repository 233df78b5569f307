"""Money has one type by its name and its place, as `onceq.wire` says."""

from __future__ import annotations

from typing import Any, get_args, get_type_hints

import pytest

from onceq import MapQuote, export, frames, wire
from onceq.map.cache import Outcome
from onceq.map.output import output_of
from onceq.map.row import row_of


def money_of(kind: type[Any]) -> dict[str, type]:
    """Its fields of money, each with its type where it is known."""
    hints = [(name, hint) for name, hint in get_type_hints(kind).items() if name == "usd" or name.endswith("_usd")]
    return {name: next(one for one in get_args(hint) or (hint,) if one is not type(None)) for name, hint in hints}


KINDS = [value for value in vars(wire).values() if isinstance(value, type)]
ANSWERS = [kind for kind in KINDS if issubclass(kind, wire.Answer) and money_of(kind)]
REQUESTS = [kind for kind in KINDS if issubclass(kind, wire.Request) and money_of(kind)]


@pytest.mark.parametrize(
    ("kinds", "dollars"), [(ANSWERS, str), (REQUESTS, float)], ids=["text is told", "a number is asked for"]
)
def test_the_wires_money_is_whole_nano_usd_and_beside_it_dollars(kinds: list[type[Any]], dollars: type) -> None:
    told = {(kind.__name__, name): known for kind in kinds for name, known in money_of(kind).items()}
    assert dollars in told.values()
    assert told == {(kind, name): int if name.endswith("nano_usd") else dollars for kind, name in told}


def test_a_maps_quote_is_as_exact_as_a_jobs_and_its_dollars_are_numbers() -> None:
    ours, jobs = money_of(MapQuote), money_of(wire.CostQuote)
    assert ours == {"upper_nano_usd": int, "expected_nano_usd": int, "paid_nano_usd": int}
    assert {"upper_nano_usd", "expected_nano_usd"} < {*jobs}
    quote = MapQuote(3, 1, 2, 1_234_567_891, 7, 5)
    assert (quote.upper_usd, quote.expected_usd, quote.paid_usd) == (1.234567891, 7e-9, 5e-9)
    assert "at most $1.23, about $0.000000007 expected" in str(quote)
    unknown = MapQuote(3, 1, 2, None, None, 0, "why")
    assert (unknown.upper_usd, unknown.expected_usd, unknown.paid_usd) == (None, None, 0)


def test_dollars_of_rows_and_frames_are_numbers_and_of_exports_exact_text() -> None:
    row = row_of("a", 0, 0, Outcome("succeeded", "Yes", 1_234_567_891), output_of(None))
    assert row.cost_usd == 1.234567891
    columns = [*frames.JOB_COLUMNS.items(), *frames.COST_COLUMNS.items()]
    money = {name: column.dtype.lower() for name, column in columns if name.endswith("_usd")}
    assert money == {name: "int64" if name.endswith("nano_usd") else "float64" for name in money}
    assert export.usd(1_234_567_891) == "1.234567891"
