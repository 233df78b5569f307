"""Which jobs a list is about, as keywords; pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from numbers import Integral
from typing import Any, TypedDict, cast

from onceq._http import refusal
from onceq._submission import aware
from onceq.wire import Band, Status, Verdict

Query = dict[str, str | list[str]]


class JobFilters(TypedDict, total=False):
    """Keywords of `list`, `list_page` and `jobs_frame`; what is left out, or None, fits any job.

    `since` and `until` are times of creation, local ones where they have no zone. Dead letters are `status="failed",
    replayed=False`; `error` is the code of a cause, `verdict` who made a job slow or failed it, `key` the id of the API
    key that posted it. Each pair of `label` (at most four) must fit.
    """

    status: Status | None
    team: str | None
    model: str | None
    band: Band | None
    verdict: Verdict | None
    error: str | None
    replayed: bool | None
    key: str | None
    user: str | None
    label: Mapping[str, str] | None
    since: datetime | None
    until: datetime | None


def query(filters: JobFilters, page_size: int | None = None) -> Query:
    """The query of a job list. Raises TypeError for a filter that does not exist, BadRequestError for a wrong value."""
    unknown = set(filters) - set(JobFilters.__annotations__)
    if unknown:
        there = ", ".join(sorted(JobFilters.__annotations__))
        raise TypeError(f"no filter of jobs is called {', '.join(sorted(unknown))}: there are {there}")
    found: Query = {
        name: _word(name, value) for name, value in filters.items() if name != "label" and value is not None
    }
    if label := filters.get("label"):
        found["label"] = _pairs(label)
    return found | limit_of(page_size)


def limit_of(page_size: int | None) -> dict[str, str]:
    """The query of a page's size; none where the service decides. Raises BadRequestError."""
    return {} if page_size is None else {"limit": str(at_least(1, "page_size", page_size))}


def at_least(least: int, name: str, count: int) -> int:
    """The count. Raises BadRequestError where it is none, or less: that would come out as nothing, or as the usual."""
    if isinstance(count, Integral) and count >= least:
        return int(count)
    raise refusal(f"{name} is a number from {least} on, or None for the usual, not {count!r}.")


def rfc3339(at: datetime) -> str:
    """A time with its zone; one without is local, as everywhere in Python."""
    return aware(at).isoformat(timespec="microseconds")


def _pairs(label: Any) -> list[str]:
    if not isinstance(label, Mapping):
        raise refusal(f"label is a dict of names and values, {{'run': '7'}}, not {label!r}.")
    return [f"{name}={value}" for name, value in cast("Mapping[Any, Any]", label).items()]


def _word(name: str, value: Any) -> str:
    if name in ("since", "until"):
        return rfc3339(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
