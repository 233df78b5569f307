"""Files for a spreadsheet: what Excel or Calc reads must be what was meant, and nothing in it may run."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onceq.wire import CostPoint
from onceq_dashboard import frames, money
from onceq_dashboard.export import csv_bytes, frame_bytes
from tests.dashboard import worlds


def read(data: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))


@pytest.mark.parametrize(
    "text",
    [
        "=HYPERLINK(1)",
        "+1",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        "  =1",
        "＝1",
        "＋1",
        "－1",
        "＠x",
        " \t=1",
        "\x00=1",
    ],
)
def test_a_text_that_a_spreadsheet_would_run_is_led_by_an_apostrophe(text: str) -> None:
    assert read(csv_bytes([{"a": text}], ["a"]))[1] == [f"'{text}"]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), min_size=1, max_size=4))
def test_every_other_text_comes_back_as_it_was(texts: list[str]) -> None:
    back = read(csv_bytes([{str(n): text for n, text in enumerate(texts)}], map(str, range(len(texts)))))[1]
    for text, cell in zip(texts, back, strict=True):
        assert cell in {text, f"'{text}"}
        assert not cell.lstrip().startswith(("=", "+", "-", "@"))


def test_a_file_starts_with_a_byte_order_mark_and_its_lines_end_as_the_rfc_says() -> None:
    data = csv_bytes([{"a": "é", "b": 1.5}], ["a", "b"])
    assert data == b'\xef\xbb\xbf"a","b"\r\n"\xc3\xa9",1.5\r\n'


def test_a_cost_file_holds_every_point_with_money_to_the_nano_dollar() -> None:
    points = worlds.make_hours(worlds.now())
    rows = read(csv_bytes(money.cost_rows(points), money.COST_COLUMNS))
    header, body = rows[0], rows[1:]
    assert header == list(money.COST_COLUMNS)
    assert len(body) == len(points)
    spent = [row[header.index("spent_usd")].replace(".", "") for row in body]
    assert sum(int(s) for s in spent) == sum(p.totals.spent_nano_usd for p in points)


def test_names_from_outside_in_a_cost_file_can_not_run() -> None:
    point = CostPoint(
        at=worlds.now(), team="=cmd|' /C calc'!A0", model="@x", labels={"=a": "b"}, totals=worlds.make_totals()
    )
    row = dict(zip(money.COST_COLUMNS, read(csv_bytes(money.cost_rows([point]), money.COST_COLUMNS))[1], strict=True))
    assert (row["team"], row["model"], row["labels"]) == ("'=cmd|' /C calc'!A0", "'@x", "'=a=b")


def test_a_chart_s_file_has_days_as_dates_and_every_number_with_fixed_decimals() -> None:
    frame = pd.DataFrame({
        "day": frames.times([datetime(2026, 11, 1, tzinfo=UTC)] * 2), "usd": [8.5e-06, float("nan")],
        "seconds": [1e-07, 12.5], "jobs": pd.Series([1, 2], dtype="int64"),
    })  # fmt: skip
    lines = frame_bytes(frame).decode("utf-8-sig").splitlines()
    assert lines[1:] == ['"2026-11-01",0.000008500,0.000000,1', '"2026-11-01","",12.500000,2']
