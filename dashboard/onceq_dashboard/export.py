"""Data frames as files for a spreadsheet. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any, Self

import pandas as pd

from onceq.export import guarded


def csv_bytes(rows: Iterable[Mapping[str, object]], columns: Iterable[str]) -> bytes:
    """Rows as CSV (RFC 4180), UTF-8 with a byte order mark so that Excel reads it as such.

    A text that a spreadsheet would run as a formula is led by an apostrophe.
    """
    out = io.StringIO()
    names = list(columns)
    writer = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\r\n")
    writer.writerow(names)
    writer.writerows([_cell(row[name]) for name in names] for row in rows)
    return out.getvalue().encode("utf-8-sig")


def frame_bytes(frame: pd.DataFrame) -> bytes:
    """A chart's or table's frame as CSV: times and days in UTC, US dollars to the nano-dollar, what is missing as
    nothing."""
    columns = {str(name): _column(str(name), frame[name]) for name in frame.columns}
    rows = ({name: values[n] for name, values in columns.items()} for n in range(len(frame)))
    return csv_bytes(rows, columns)


def _column(name: str, values: pd.Series[Any]) -> list[object]:
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        return list(values.dt.strftime("%Y-%m-%d" if name == "day" else "%Y-%m-%dT%H:%M:%SZ"))
    places = 9 if name.endswith("usd") else 6
    fixed = pd.api.types.is_float_dtype(values.dtype)
    return ["" if pd.isna(value) else _Fixed(value, places) if fixed else value for value in values.tolist()]


class _Fixed(float):
    """A number that a file has with as many decimals in every row, and never as 8.5e-06."""

    def __new__(cls, value: float, places: int) -> Self:
        fixed = super().__new__(cls, value)
        fixed.places = places
        return fixed

    places: int

    def __str__(self) -> str:
        return f"{float(self):.{self.places}f}"


def _cell(value: object) -> object:
    return guarded(value) if isinstance(value, str) else value
