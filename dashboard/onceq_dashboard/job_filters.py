"""Which jobs a person looks for: what the filters say, in the page's address and for the API. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, Literal, NamedTuple, cast, get_args

from onceq import JobFilters
from onceq.wire import BANDS, Band, Status, Verdict

When = Literal["last hour", "last 24 hours", "last 7 days", "before the last hour", "before the last 24 hours"]
WITHIN: Final[Mapping[When, timedelta]] = {
    "last hour": timedelta(hours=1), "last 24 hours": timedelta(days=1), "last 7 days": timedelta(days=7),
}  # fmt: skip
BEFORE: Final[Mapping[When, timedelta]] = {
    "before the last hour": timedelta(hours=1), "before the last 24 hours": timedelta(days=1),
}  # fmt: skip
CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "status": get_args(Status), "band": BANDS, "verdict": get_args(Verdict), "when": get_args(When),
}  # fmt: skip
"""The filters that know their values; any other word in an address is no filter."""
JOB_PREFIX: Final = "job_"


class Filters(NamedTuple):
    """Which jobs to list; None is any. `search` is a user, or a label as `name=value`; `key` the id of an API key."""

    status: Status | None = None
    model: str | None = None
    team: str | None = None
    band: Band | None = None
    verdict: Verdict | None = None
    key: str | None = None
    when: When | None = None
    search: str | None = None


def given(words: Mapping[str, str | None]) -> dict[str, str]:
    """The filters among the words of an address, or of the fields of a page; what can be none is left out."""
    stripped = {name: (words.get(name) or "").strip() for name in Filters._fields}
    return {name: word for name, word in stripped.items() if word and word in CHOICES.get(name, (word,))}


def filters(words: Mapping[str, str | None]) -> Filters:
    """Those words as filters."""
    known: dict[str, Any] = {**given(words)}  # each is one of its field's values: CHOICES has let it through
    return Filters(**known)


def complete_option(typed: str, options: Mapping[str, str]) -> str:
    """The option that was meant by a part of what it is called; else what was typed, as there may be others."""
    if typed in options:
        return typed
    fitting = [option for option, called in options.items() if typed.casefold() in called.casefold()]
    return fitting[0] if len(fitting) == 1 else typed


def is_job_id(search: str) -> bool:
    """Whether what was typed means one job."""
    return search.startswith(JOB_PREFIX) and "=" not in search


def api_filters(wanted: Filters, at: datetime) -> JobFilters:
    """The filters as the SDK takes them, at a time."""
    within, before = WITHIN.get(cast("When", wanted.when)), BEFORE.get(cast("When", wanted.when))
    name, equals, value = (wanted.search or "").partition("=")
    return {
        "status": wanted.status, "model": wanted.model, "team": wanted.team, "band": wanted.band,
        "verdict": wanted.verdict, "key": wanted.key, "since": at - within if within else None,
        "until": at - before if before else None, "label": {name: value} if equals else None,
        "user": None if equals else name or None,
    }  # fmt: skip
