"""What is mapped: a column, a frame, a list or an iterator, row by row, and the prompt that is made of each. No I/O."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from itertools import count
from math import isnan
from typing import Any, Final, Literal, cast

from onceq._http import refusal
from onceq._submission import Prompt
from onceq._template import fill, names_in
from onceq.errors import BadRequestError

Kind = Literal["pandas", "polars", "plain"]
PromptSource = str | Callable[[Any], Prompt]
"""A text with `{column}` in it, or a function of the row that gives a prompt."""
SCALAR_NAMES: Final = ("text", "value")
"""What a row that is one value is called in a template, beside its own name where it has one."""
_EXPRESSION: Final = re.compile(r"([^\W\d]\w*)[.:!\[]")


@dataclass(frozen=True, slots=True)
class Source:
    """Rows in their order. `labels` are the index of the frame that comes back, None for 0, 1, 2, ..."""

    kind: Kind
    rows: Iterable[Any]
    labels: Sequence[Any] | None
    total: int | None
    index: Any = None
    """The pandas index itself."""

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return zip(count() if self.labels is None else self.labels, self.rows, strict=False)

    def kept(self) -> Source:
        """These rows in a list, for walking them more than once."""
        if self.total is not None:
            return self
        rows = list(self.rows)
        return Source(self.kind, rows, self.labels, len(rows), self.index)


class RowProblem(ValueError):  # noqa: N818 - told in the row, never raised to a caller
    """Why a row makes no prompt."""


def source_of(rows: Any, template: PromptSource | None) -> Source:
    """The rows of whatever was given. Raises BadRequestError when that has no rows, or they would make no prompts."""
    if isinstance(rows, (str, bytes, Mapping)):
        raise refusal("map takes many rows: a column, a frame, a list or an iterator. For one prompt there is submit.")
    if template is not None and not isinstance(template, str) and not callable(template):
        raise refusal(
            f"a prompt is a text with {{column}} in it, or a function of the row, not {type(template).__name__}."
        )
    for kind in ("pandas", "polars"):
        library: Any = sys.modules.get(kind)  # what was never imported, nobody has made a frame with
        if library is not None and isinstance(rows, (library.Series, library.DataFrame)):
            return _of_library(kind, rows, template, is_frame=isinstance(rows, library.DataFrame))
    if not isinstance(rows, Iterable):
        raise refusal(f"map takes a column, a frame, a list or an iterator, not {type(rows).__name__}.")
    if isinstance(template, str):
        _refuse_expressions(template, SCALAR_NAMES)
        if not names_in(template, _Anything()):
            raise _the_same(", ".join(SCALAR_NAMES))
    total = len(rows) if isinstance(rows, Sized) and not isinstance(rows, Iterator) else None
    return Source("plain", cast("Iterable[Any]", rows), None, total)


class _Anything:
    """Holds every name: what the rows have is not known before they are walked."""

    def __contains__(self, _: object) -> bool:
        return True


def _the_same(known: str) -> BadRequestError:
    return refusal(
        "the prompt names no column, so that every row would ask the same: write {name} where a row's value belongs. "
        f"There is {known}."
    )


def _refuse_expressions(template: str, known: Container[object]) -> None:
    """`{price:.2f}` would be sent as it is, and be paid for."""
    for hole in names_in(template, _Anything()):
        name = _EXPRESSION.match(hole)
        if name is not None and name[1] in known and hole not in known:
            raise refusal(
                f"the prompt has {{{hole}}}, and names alone are filled in: make a column of it, or write "
                f"{{{{{hole}}}}} for a text in braces."
            )


def _of_library(kind: Kind, rows: Any, template: PromptSource | None, *, is_frame: bool) -> Source:
    index: Any = rows.index if kind == "pandas" else None
    labels: list[Any] | None = None if index is None else index.tolist()
    made = _frame_rows(rows, template) if is_frame else _series_rows(rows, template)
    return Source(kind, made, labels, len(rows), index)


def _series_rows(series: Any, template: PromptSource | None) -> Sequence[Any]:
    values = _listed(series)
    own = None if series.name is None else str(series.name)
    first = next((value for value in values if not is_missing(value)), None)
    if not isinstance(template, str) or isinstance(first, Mapping):
        return values
    known = [*SCALAR_NAMES, *([own] if own and own not in SCALAR_NAMES else [])]
    names = _names(template, known)
    return values if own not in names else [dict.fromkeys(known, value) for value in values]


def _frame_rows(frame: Any, template: PromptSource | None) -> Iterable[Any]:
    """One mapping a row, of the columns that the template names; all of them for a function."""
    if template is None:
        raise refusal("a frame needs a prompt: one with {column} in it, or a function of the row; or pass one column.")
    columns = [str(name) if isinstance(template, str) else name for name in frame.columns]  # {0} is the column 0 too
    names = _names(template, columns) if isinstance(template, str) else columns
    twice = [str(name) for name in names if columns.count(name) > 1]
    if twice:
        raise refusal(f"the frame has several columns that are called {twice[0]}: rename them, or pass one column.")
    called = dict(zip(columns, frame.columns, strict=True))
    return _Columns(names, [_listed(frame[called[name]]) for name in names], len(frame))


def _names(template: str, known: Sequence[Any]) -> list[str]:
    """What the template names. Raises BadRequestError where that is nothing, or unknown."""
    _refuse_expressions(template, known)
    names = names_in(template, known)
    listed = ", ".join(map(str, known)) or "none"
    if not names:
        raise _the_same(listed)
    missing = [name for name in names if name not in known]
    if missing:
        raise refusal(f"the prompt uses {', '.join(missing)}, and there is {listed}.")
    return names


@dataclass(frozen=True, slots=True)
class _Columns:
    """Rows made of columns as they are walked, however often."""

    names: Sequence[str]
    columns: Sequence[Sequence[Any]]
    length: int

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if not self.columns:  # for a function of rows that have none
            return ({} for _ in range(self.length))
        return (dict(zip(self.names, row, strict=True)) for row in zip(*self.columns, strict=True))


def _listed(series: Any) -> list[Any]:
    return series.to_list()


def prompt_of(row: Any, template: PromptSource | None) -> Prompt:
    """The prompt of a row. Raises RowProblem, which says what the row lacks."""
    if template is None:
        return _checked(row)
    if callable(template):
        return _called(template, row)
    named: Mapping[str, Any] = (
        cast("Mapping[str, Any]", row) if isinstance(row, Mapping) else dict.fromkeys(SCALAR_NAMES, row)
    )
    for name in names_in(template, named):
        if name not in named:
            raise RowProblem(f"the prompt uses {{{name}}}, and the row has {', '.join(map(str, named)) or 'nothing'}")
        if is_missing(named[name]):
            raise RowProblem(f"{name} is missing in this row")
    return fill(template, named)


def _called(template: Callable[[Any], Prompt], row: Any) -> Prompt:
    try:
        return _checked(template(row))
    except RowProblem:
        raise
    except Exception as exc:  # one row's trouble, whatever it is, is not the others'
        raise RowProblem(f"the prompt's function failed: {type(exc).__name__}: {exc}") from exc


def _checked(prompt: Any) -> Prompt:
    if is_missing(prompt):
        raise RowProblem("the row is missing")
    if isinstance(prompt, str):
        if not prompt:
            raise RowProblem("the prompt is empty")
        return prompt
    if isinstance(prompt, Sequence) and not isinstance(prompt, bytes):
        return cast("Prompt", prompt)
    raise RowProblem(f"a prompt is a text or a list of messages, not {type(prompt).__name__}")


def is_missing(value: Any) -> bool:
    """None, NaN, pandas' NA and NaT."""
    if isinstance(value, float):
        return isnan(value)
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def spread(total: int, wanted: int) -> frozenset[int]:
    """Positions of a sample, evenly from the first row to the last."""
    if wanted >= total:
        return frozenset(range(total))
    if wanted == 1:
        return frozenset({0})
    return frozenset(round(n * (total - 1) / (wanted - 1)) for n in range(wanted))
