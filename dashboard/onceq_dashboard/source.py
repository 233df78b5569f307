"""All that the dashboard reads, through the SDK; who calls it sees wire values or one clear sentence (SourceError).

Reads are kept for a second and shared by all who look with the same key, failures too: however many pages are open,
the API has one request a second and kind of reading, and nobody queues behind another's timeout.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import islice
from typing import Final, Literal, NamedTuple, TypedDict, TypeVar

import streamlit as st

from onceq import Health, Job, JobRequest, LedgerEntry, Stats, StreamEvent
from onceq.wire import SCOPES, ApiKeyInfo, BudgetStatus, CostDimension, CostPoint, JobPage, Lanes, Scope, allows
from onceq_dashboard import estimate, periods
from onceq_dashboard.access import ApiAccess, SourceError, Trouble, client, translate_errors
from onceq_dashboard.estimate import Work
from onceq_dashboard.forecast import read_from
from onceq_dashboard.job_filters import Filters, api_filters
from onceq_dashboard.money import GroupBy
from onceq_dashboard.periods import Period

T = TypeVar("T")

KEEP_S: Final = 1.0
COSTS_S: Final = 5.0
"""How long the sums of a period are kept, and what a key may do."""
PRICES_S: Final = 60.0
"""How long what hardly changes is kept: the prices of an estimate, the sums of days that are over."""
MOST_EVENTS: Final = 20_000
"""Of a log that is shown."""
DIMENSIONS: Final[tuple[CostDimension, ...]] = ("team", "model", "provider", "band", "key", "labels")


class DeadLetterFilter(NamedTuple):
    """Which dead letters; None is any. `error` is the code of its error."""

    error: str | None = None
    model: str | None = None
    team: str | None = None


def forget() -> None:
    """Read everything anew: something was changed."""
    for kept in (_stats, _lanes, _newest, _job, _ledger, _dead_letters, _budgets, _keys):
        kept.clear()


def ahead(access: ApiAccess, first: Callable[[ApiAccess], object], *others: Callable[[ApiAccess], object]) -> None:
    """Have all of these at hand when the page asks for them: the first alone, then the others at the same time.

    What fails fails when it is asked for. Where the first fails, as with a key that is not known, no other is tried.
    """

    def read(reading: Callable[[ApiAccess], object]) -> None:
        with suppress(SourceError):
            reading(access)

    with suppress(SourceError), ThreadPoolExecutor(len(others), "onceq-reading") as pool:
        first(access)
        list(pool.map(read, others))


def stats(access: ApiAccess) -> Stats:
    """The queue now and the last 24 hours."""
    return _unwrap(_stats(access.looking))


def health(access: ApiAccess) -> Health:
    """Whether the service is ready."""
    return _unwrap(_health(access.looking))


def costs(access: ApiAccess, name: periods.Name, by: GroupBy) -> list[CostPoint]:
    """Sums by hour (of the last 24) or day (UTC) of the period up to now, by model, team and `by`."""
    return _unwrap(_costs(access.looking, name, by))


def costs_before(access: ApiAccess, name: periods.Name, by: GroupBy) -> list[CostPoint]:
    """Those of the period before it, by `by` alone."""
    return _unwrap(_costs_before(access.looking, name, by))


def all_costs(access: ApiAccess, name: periods.Name) -> list[CostPoint]:
    """Those of the period by every dimension at once: as many as there is, for a file."""
    access = access.looking
    with translate_errors(access):
        return client(access).costs(group_by=DIMENSIONS, **_asked(periods.current(name, datetime.now(UTC)))).points


def recent_days(access: ApiAccess) -> list[CostPoint]:
    """Sums by day (UTC) of this month and of the last four weeks, in one group; a minute old at most."""
    return _unwrap(_recent_days(access.looking))


def restated(access: ApiAccess, name: periods.Name, by: GroupBy, at: datetime) -> list[CostPoint]:
    """One sum a group over the whole days of a period, with what its tokens would cost at another day's prices."""
    return _unwrap(_restated(access.looking, name, by, at))


def latency(access: ApiAccess, days: int) -> list[CostPoint]:
    """Sums by hour, model and band of the last `days` times 24 hours, this one included."""
    return _unwrap(_latency(access.looking, days))


def lanes(access: ApiAccess) -> Lanes:
    """What limits and brakes the models."""
    return _unwrap(_lanes(access.looking))


def newest(access: ApiAccess, filters: Filters, size: int) -> JobPage:
    """The newest jobs that fit, at most `size`, without what they said: one request, bounded work."""
    return _unwrap(_newest(access.looking, filters, size))


def older(access: ApiAccess, filters: Filters, size: int, cursor: str | None) -> JobPage:
    """The page behind a cursor, read anew. Raises SourceError."""
    with translate_errors(access.looking):
        return _page(access.looking, filters, size, cursor)


def dead_letters(access: ApiAccess, wanted: DeadLetterFilter, size: int) -> list[Job]:
    """The newest `size` failed jobs that nobody has asked again, without what they said."""
    return _unwrap(_dead_letters(access.looking, wanted, size))


def prices(access: ApiAccess) -> dict[Work, Fraction]:
    """What an answer has cost lately, by model."""
    return _unwrap(_prices(access.looking))


def whoami(access: ApiAccess) -> ApiKeyInfo:
    """The key that this person acts with. Raises SourceError for who may only look."""
    return _unwrap(_whoami(access.acting))


def scopes(access: ApiAccess) -> frozenset[Scope]:
    """What this person may do, by what a key's scopes stand for too."""
    if access.looks_only:
        return frozenset[Scope](("read",))
    own = whoami(access).scopes
    return frozenset(scope for scope in SCOPES if allows(own, scope))


def budgets(access: ApiAccess) -> list[BudgetStatus]:
    """The tenant's budgets, by name; an operator's key sees those of all tenants."""
    return _unwrap(_budgets(access.looking))


def keys(access: ApiAccess) -> list[ApiKeyInfo]:
    """The tenant's API keys, oldest first. Needs `admin`."""
    return _unwrap(_keys(access.acting))


def named_keys(access: ApiAccess, points: Sequence[CostPoint]) -> list[CostPoint]:
    """The points with the names of their API keys instead of the ids, for who may know them."""
    names = key_names(access)
    return [p.model_copy(update={"key": names.get(p.key, p.key)}) for p in points]


def key_names(access: ApiAccess) -> dict[str, str]:
    """The names of the tenant's API keys by id, for who may know them; else none. Alike ones as "name (id)"."""
    if "admin" not in scopes(access):
        return {}
    known = keys(access)
    often = Counter(key.name for key in known)
    return {key.id: key.name if often[key.name] == 1 else f"{key.name} ({key.id})" for key in known}


def request(access: ApiAccess, job_id: str) -> JobRequest:
    """What the job was asked."""
    return _unwrap(_request(access.looking, job_id))


def events(access: ApiAccess, job_id: str) -> list[StreamEvent]:
    """The log of a job that has ended, its first `MOST_EVENTS`; of an old one its snapshot and its end."""
    return _unwrap(_events(access.looking, job_id))


def job(access: ApiAccess, job_id: str) -> Job:
    """The job as it stands."""
    return _unwrap(_job(access.looking, job_id))


def ledger(access: ApiAccess, job_id: str) -> list[LedgerEntry]:
    """What was booked for the job, oldest first."""
    return _unwrap(_ledger(access.looking, job_id))


@st.cache_data(ttl=KEEP_S, max_entries=200, show_spinner=False)
def _stats(access: ApiAccess) -> Stats | Trouble:
    return _tried(access, lambda: client(access).stats())


@st.cache_data(ttl=KEEP_S, max_entries=200, show_spinner=False)
def _health(access: ApiAccess) -> Health | Trouble:
    return _tried(access, lambda: client(access).health())


@st.cache_data(ttl=COSTS_S, max_entries=200, show_spinner=False)
def _costs(access: ApiAccess, name: periods.Name, by: GroupBy) -> list[CostPoint] | Trouble:
    period, dimensions = periods.current(name, datetime.now(UTC)), list(dict.fromkeys(("model", "team", by)))
    return _tried(access, lambda: client(access).costs(group_by=dimensions, **_asked(period)).points)


@st.cache_data(ttl=PRICES_S, max_entries=200, show_spinner=False)
def _costs_before(access: ApiAccess, name: periods.Name, by: GroupBy) -> list[CostPoint] | Trouble:
    period = periods.before(name, datetime.now(UTC))
    return _tried(access, lambda: client(access).costs(group_by=[by], **_asked(period)).points)


@st.cache_data(ttl=PRICES_S, max_entries=200, show_spinner=False)
def _recent_days(access: ApiAccess) -> list[CostPoint] | Trouble:
    since = read_from(datetime.now(UTC))
    return _tried(access, lambda: client(access).costs(since=since).points)


@st.cache_data(ttl=PRICES_S, max_entries=200, show_spinner=False)
def _restated(access: ApiAccess, name: periods.Name, by: GroupBy, at: datetime) -> list[CostPoint] | Trouble:
    since = periods.current(name, datetime.now(UTC)).since
    ask = client(access).costs
    return _tried(access, lambda: ask(group_by=[by], interval="total", since=since, restated_at=at).points)


class _Span(TypedDict):
    interval: Literal["hour", "day"]
    since: datetime
    until: datetime


def _asked(period: Period) -> _Span:
    return {"interval": period.interval, "since": period.since, "until": period.until}


@st.cache_data(ttl=KEEP_S, max_entries=200, show_spinner=False)
def _latency(access: ApiAccess, days: int) -> list[CostPoint] | Trouble:
    since = datetime.now(UTC) - timedelta(hours=24 * days - 1)
    by: tuple[CostDimension, ...] = ("model", "band")
    return _tried(access, lambda: client(access).costs(group_by=by, interval="hour", since=since).points)


@st.cache_data(ttl=KEEP_S, max_entries=200, show_spinner=False)
def _lanes(access: ApiAccess) -> Lanes | Trouble:
    return _tried(access, lambda: client(access).lanes())


@st.cache_data(ttl=KEEP_S, max_entries=200, show_spinner=False)
def _newest(access: ApiAccess, filters: Filters, size: int) -> JobPage | Trouble:
    return _tried(access, lambda: _page(access, filters, size, None))


@st.cache_data(ttl=KEEP_S, max_entries=200, show_spinner=False)
def _job(access: ApiAccess, job_id: str) -> Job | Trouble:
    return _tried(access, lambda: client(access).get(job_id))


@st.cache_data(ttl=KEEP_S, max_entries=200, show_spinner=False)
def _ledger(access: ApiAccess, job_id: str) -> list[LedgerEntry] | Trouble:
    return _tried(access, lambda: list(client(access).ledger(job_id)))


@st.cache_data(ttl=KEEP_S, max_entries=200, show_spinner=False)
def _dead_letters(access: ApiAccess, wanted: DeadLetterFilter, size: int) -> list[Job] | Trouble:
    def read() -> list[Job]:
        found = client(access).list(
            status="failed", replayed=False, error=wanted.error, model=wanted.model, team=wanted.team, page_size=size
        )
        return [letter.model_copy(update={"output": None}) for letter in islice(found, size)]

    return _tried(access, read)


@st.cache_data(ttl=PRICES_S, max_entries=200, show_spinner=False)
def _prices(access: ApiAccess) -> dict[Work, Fraction] | Trouble:
    since = datetime.now(UTC) - timedelta(days=estimate.DAYS - 1)
    return _tried(access, lambda: estimate.prices(client(access).costs(group_by=["model"], since=since).points))


@st.cache_data(ttl=COSTS_S, max_entries=200, show_spinner=False)
def _whoami(access: ApiAccess) -> ApiKeyInfo | Trouble:
    return _tried(access, lambda: client(access).whoami())


@st.cache_data(ttl=KEEP_S, max_entries=200, show_spinner=False)
def _budgets(access: ApiAccess) -> list[BudgetStatus] | Trouble:
    return _tried(access, lambda: list(client(access).budgets()))


@st.cache_data(ttl=KEEP_S, max_entries=200, show_spinner=False)
def _keys(access: ApiAccess) -> list[ApiKeyInfo] | Trouble:
    return _tried(access, lambda: list(client(access).keys()))


@st.cache_data(ttl=PRICES_S, max_entries=20, show_spinner=False)
def _events(access: ApiAccess, job_id: str) -> list[StreamEvent] | Trouble:
    return _tried(access, lambda: list(islice(client(access).follow(job_id).events(), MOST_EVENTS)))


@st.cache_data(ttl=PRICES_S, max_entries=50, show_spinner=False)
def _request(access: ApiAccess, job_id: str) -> JobRequest | Trouble:
    return _tried(access, lambda: client(access).request(job_id))


def _page(access: ApiAccess, filters: Filters, size: int, cursor: str | None) -> JobPage:
    found = client(access).list_page(cursor=cursor, page_size=size, **api_filters(filters, datetime.now(UTC)))
    told = [job.model_copy(update={"output": None}) for job in found.jobs]  # no table has a use for its megabytes
    return found.model_copy(update={"jobs": told})


def _tried(access: ApiAccess, read: Callable[[], T]) -> T | Trouble:
    try:
        with translate_errors(access):
            return read()
    except SourceError as exc:
        return exc.trouble


def _unwrap(reading: T | Trouble) -> T:
    if isinstance(reading, Trouble):
        raise SourceError(reading)
    return reading
