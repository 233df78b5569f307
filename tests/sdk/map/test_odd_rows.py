"""Rows of every kind that frames have: empty, missing, doubled, huge, with braces; what is odd stays in its row."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel

from onceq import Client
from onceq.map.cache import Outcome
from onceq.map.frame import frame_of
from onceq.map.output import OutputMismatch, output_of
from onceq.map.row import row_of
from onceq.map.rows import prompt_of, source_of
from tests.sdk.map.kit import asked, mapped, texts
from tests.stack import Stack

QUICK = "[[sim tokens=3 tps=0 ttft_ms=0]]"


@pytest.mark.parametrize("rows", [[], pd.Series([], dtype=str), pd.DataFrame({"text": []})], ids=str)
@pytest.mark.parametrize("options", [{}, {"n": 3}, {"sample": 5}, {"max_cost_usd": 1}, {"progress": True}], ids=str)
def test_no_rows_are_an_empty_frame_of_the_same_types(client: Client, rows: Any, options: Any) -> None:
    frame = mapped(client, rows, "{text}", max_tokens=5, **options)
    kinds = {"text": "string", "status": "string", "cost_usd": "float64", "ttft_s": "float64", "tokens": "Int64"}
    assert len(frame) == 0
    assert {name: str(frame[name].dtype) for name in kinds} == kinds
    assert list(client.list()) == []


def test_what_is_missing_or_no_text_is_told_in_its_row(client: Client) -> None:
    [good] = texts(1)
    missing: list[Any] = [None, float("nan"), pd.NA, pd.NaT, "", 7, b"bytes", "lone \ud800"]
    frame = mapped(client, pd.Series([good, *missing, ["no turn"]], dtype=object))
    assert frame["status"].tolist() == ["succeeded", *["skipped"] * len(missing), "refused"]
    assert frame["error"].notna().tolist() == [False, *[True] * (len(missing) + 1)]


def test_an_index_may_have_labels_twice_or_several_levels(client: Client) -> None:
    first, second, third = texts(3)
    twice = mapped(client, pd.Series([first, second, third], index=["a", "a", "b"]))
    assert twice.index.tolist() == ["a", "a", "b"]
    levels = pd.MultiIndex.from_tuples([("x", 1), ("x", 2), ("y", 1)], names=["shop", "day"])
    frame = mapped(client, pd.DataFrame({"text": [first, second, third]}, index=levels), "{text}")
    assert frame.index.equals(levels)
    assert frame["job_id"].tolist() == twice["job_id"].tolist()


def test_texts_of_any_length_and_script_arrive_as_they_are(stack: Stack, key: str, client: Client) -> None:
    odd = [
        "👩🏽‍🚀 Ünïcødé 水 \u202e \x00 \r\n tabs\t",
        '{"json": {"a": [1]}} {not_a_column} {{braces}} 100 %',
        "wörter " * 40_000,
    ]
    frame = mapped(client, pd.DataFrame({"text": odd}), f"{{{{Say}}}} {{text}} {QUICK}")
    assert frame["status"].tolist() == ["succeeded"] * 3
    assert [asked(stack, key, job) for job in frame["job_id"]] == [f"{{Say}} {text} {QUICK}" for text in odd]


def test_a_text_that_no_post_could_carry_is_refused_alone(client: Client) -> None:
    frame = mapped(client, [*texts(1), "x" * (9 * 1024 * 1024), *texts(1)])
    assert frame["status"].tolist() == ["succeeded", "refused", "succeeded"]
    assert "bytes" in frame["error"][1]


def test_options_may_be_numpys_and_find_what_was_asked_with_pythons(client: Client) -> None:
    rows = texts(2)
    first = mapped(client, rows, max_tokens=np.int64(9), params={"seed": np.int32(3)})
    again = mapped(client, rows, max_tokens=9, params={"seed": 3})
    assert list(first["status"]) == ["succeeded", "succeeded"]
    assert list(again["job_id"]) == list(first["job_id"])


def test_cells_of_other_types_are_written_as_python_writes_them() -> None:
    at = pd.Timestamp("2026-01-02")
    frame = pd.DataFrame({"a": [1], "b": [0.5], "c": [True], "review text": ["Fine."], "größe": [at]})
    source = source_of(frame, "{a} {b} {c} {review text} {größe} {else where}")
    [(_, row)] = source
    assert prompt_of(row, "{a} {b} {c} {review text} {größe} {else where}") == (
        "1 0.5 True Fine. 2026-01-02 00:00:00 {else where}"
    )


@pytest.mark.parametrize(
    ("rows", "template"),
    [
        (pd.DataFrame([["Fine.", "Bad."]]), "{0} {1}"),
        (pd.DataFrame([["Fine.", "Bad."]], columns=[2024, "b"]), "{2024} {b}"),
        (pd.DataFrame([["Fine.", "Bad."]])[0], "{0} Bad."),
    ],
)
def test_a_column_may_be_called_by_a_number(rows: Any, template: str) -> None:
    [(_, row)] = source_of(rows, template)
    assert prompt_of(row, template) == "Fine. Bad."


def test_a_function_sees_columns_under_their_own_names() -> None:
    [(_, row)] = source_of(pd.DataFrame([["Fine."]]), lambda row: row[0])
    assert prompt_of(row, lambda row: row[0]) == "Fine."


@pytest.mark.parametrize(
    "rows", [np.array(["a", "b"]), {"k": "a", "l": "b"}.values(), pd.Index(["a", "b"]), ("a", "b")]
)
def test_whatever_has_a_length_has_a_forecast(rows: Any) -> None:
    assert source_of(rows, None).total == 2
    assert source_of(iter(rows), None).total is None


def test_an_iterator_that_fails_says_what_goes_on_and_costs_nothing_twice(stack: Stack, client: Client) -> None:
    rows = texts(1500, ttft_ms=400)

    def failing() -> Iterator[str]:
        yield from rows[:1200]
        raise ValueError("the file ends here")

    with pytest.raises(ValueError, match="the file ends here") as failed:
        mapped(client, failing())
    [note] = failed.value.__notes__
    assert "1000 are committed and go on" in note
    assert "client.cancel_batch(" in note
    client.cancel_batch(note.split("client.cancel_batch('")[1].split("'")[0])


def test_rows_that_nobody_asks_for_open_nothing(either: Any, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    walk = getattr(either, "imap", None) or either.amap
    rows = walk(["never"], progress=True)
    del rows
    assert list(folder.iterdir()) == []
    assert capsys.readouterr().err == ""


class Visit(BaseModel):
    day: date
    at: datetime
    guests: int


SCHEMA = {
    "type": "object", "required": ["day", "at", "guests"],
    "properties": {
        "day": {"type": "string", "format": "date"}, "at": {"type": "string", "format": "date-time"},
        "guests": {"type": "integer"},
    },
}  # fmt: skip


@pytest.mark.parametrize("output", [Visit, SCHEMA], ids=["model", "schema"])
@pytest.mark.parametrize(
    ("day", "at", "guests", "fits"),
    [
        ("2026-01-02", "2026-01-02T10:00:00Z", "3", True),
        ("2026-01-02", "2026-01-02T10:00:00+02:00", "3", True),
        ("2026-01-02", "2026-01-02T10:00:00", "3", True),
        ("9999-12-31", "0001-01-01T00:00:00Z", "3", True),
        ("yesterday", "2026-01-02T10:00:00Z", "3", False),
        ("2026-01-02", "soon", "3", False),
        ("2026-01-02", "2026-01-02T10:00:00Z", "1" + "0" * 30, False),
        ("2026-01-02", "2026-01-02T10:00:00Z", "NaN", False),
    ],
)
def test_a_value_that_fits_no_column_makes_its_row_invalid_and_never_breaks_the_frame(
    output: Any, day: str, at: str, guests: str, fits: bool
) -> None:
    reader = output_of(output)
    text = f'{{"day": "{day}", "at": "{at}", "guests": {guests}}}'
    if not fits:
        with pytest.raises(OutputMismatch):
            reader.parse(text)
    shaped = [row_of(n, n, 0, Outcome("succeeded", text=one), reader) for n, one in enumerate((text, "{}"))]
    for library in (pd, pytest.importorskip("polars")):
        made: Any = frame_of(shaped, source_of(library.Series(["a", "b"]), None), reader, 1)
        assert list(made["status"]) == ["succeeded" if fits else "invalid", "invalid"]
        assert str(made["day"].dtype).lower().startswith("date")
        assert "UTC" in str(made["at"].dtype)
        assert "int64" in str(made["guests"].dtype).lower()
