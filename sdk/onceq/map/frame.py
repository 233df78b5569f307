"""Rows become a frame: of pandas on the same index, of polars in the same order. Both are imported here alone."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from onceq.errors import ConfigurationError
from onceq.map.output import MOMENTS, Column, Output, moment
from onceq.map.row import MapRow
from onceq.map.rows import Source

if TYPE_CHECKING:
    import pandas as pd

FIXED: Final[Sequence[Column]] = (
    ("status", "string"), ("cost_usd", "number"), ("ttft_s", "number"), ("tokens", "integer"), ("job_id", "string"),
    ("error", "string"),
)  # fmt: skip
_PANDAS: Final = {"string": "string", "integer": "Int64", "number": "float64", "boolean": "boolean", "any": "object"}


def needs(source: Source) -> None:
    """Raises ConfigurationError when the library of the frame that is to come is missing: before anything is sent."""
    _library("polars" if source.kind == "polars" else "pandas")


def frame_of(rows: Sequence[MapRow], source: Source, output: Output, n: int) -> pd.DataFrame:
    """One line a row, in their order; with `n` above 1 one line a sample, and a column `sample`."""
    cells = [output.cells(row.value) for row in rows]
    columns: dict[str, tuple[str, list[Any]]] = {}
    if n > 1:
        columns["sample"] = ("integer", [row.sample for row in rows])
    for at, (name, kind) in enumerate(output.columns):
        columns[name] = (kind, [cell[at] for cell in cells])
    for name, kind in FIXED:
        columns[name] = (kind, [getattr(row, name) for row in rows])
    return _polars_frame(columns) if source.kind == "polars" else _pandas_frame(columns, source, n)


def _pandas_frame(columns: dict[str, tuple[str, list[Any]]], source: Source, n: int) -> pd.DataFrame:
    pandas = _library("pandas")
    count = len(next(iter(columns.values()))[1])
    index: Any = pandas.RangeIndex(count // n) if source.index is None else source.index
    if n > 1:
        index = index.repeat(n)
    made = {name: _pandas_column(pandas, kind, values, index) for name, (kind, values) in columns.items()}
    return pandas.DataFrame(made, index=index)


def _pandas_column(pandas: Any, kind: str, values: list[Any], index: Any) -> Any:
    if kind in MOMENTS:
        times = pandas.to_datetime([moment(value) for value in values], utc=True, errors="coerce")
        return pandas.Series(times if kind == "date-time" else times.tz_localize(None), index=index)
    if kind == "number":  # None as NaN, which float64 has for what is not known
        values = [float("nan") if value is None else value for value in values]
    return pandas.Series(values, index=index, dtype=_PANDAS[kind])


def _polars_frame(columns: dict[str, tuple[str, list[Any]]]) -> Any:
    polars = _library("polars")
    kinds = {"string": polars.String, "integer": polars.Int64, "number": polars.Float64, "boolean": polars.Boolean}
    made: list[Any] = []
    for name, (kind, values) in columns.items():
        if kind in MOMENTS:
            times = polars.Series(name, [moment(value) for value in values], dtype=polars.Datetime("us", "UTC"))
            made.append(times if kind == "date-time" else times.dt.date())
        else:
            made.append(polars.Series(name, values, dtype=kinds.get(kind), strict=False))
    return polars.DataFrame(made)


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as exc:
        also = "pip install 'onceq[notebook]'" if name == "pandas" else f"pip install {name}"
        raise ConfigurationError(
            f"a map gives a {name} frame, and {name} is not installed: {also}. Without frames, iterate the rows "
            "(Client.imap, AsyncClient.amap). Nothing was sent."
        ) from exc
