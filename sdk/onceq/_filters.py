"""Which jobs a list is about, as keywords; pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TypedDict

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
    """The query of a job list. Raises TypeError for a filter that does not exist."""
    unknown = set(filters) - set(JobFilters.__annotations__)
    if unknown:
        raise TypeError(f"no filter of jobs is called {', '.join(sorted(unknown))}")
    found: Query = {name: _word(value) for name, value in filters.items() if name != "label" and value is not None}
    if label := filters.get("label"):
        found["label"] = [f"{name}={value}" for name, value in label.items()]
    return found | ({"limit": str(page_size)} if page_size else {})


def rfc3339(at: datetime) -> str:
    """A time with its zone; one without is local, as everywhere in Python."""
    return aware(at).isoformat(timespec="microseconds")


def _word(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return rfc3339(value) if isinstance(value, datetime) else str(value)
