"""All that the dashboard reads and does, through the SDK; who calls it sees wire values or one clear sentence.

Reads are kept for a second and shared by all who look with the same key, failures too: however many pages are open,
the API has one request a second and kind of reading, and nobody queues behind another's timeout.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import islice
from typing import Final, Literal, NamedTuple, TypeVar

import streamlit as st

from onceq import (
    APIError,
    AuthenticationError,
    Client,
    ConfigurationError,
    ConnectionFailed,
    Health,
    Job,
    LedgerEntry,
    NotFoundError,
    OnceqError,
    PermissionDeniedError,
    ServiceUnavailableError,
    Stats,
)
from onceq.wire import CostDimension, CostPoint, Lanes, Scope, Status
from onceq_dashboard import estimate
from onceq_dashboard.estimate import Work
from onceq_dashboard.format import code_span, literal

T = TypeVar("T")
Kind = Literal["away", "unavailable", "key", "scope", "missing", "settings", "other"]

KEEP_S: Final = 1.0
TIMEOUT_S: Final = 5.0
PATIENT_S: Final = 60.0
"""How long an action on many jobs may take."""
PRICES_S: Final = 60.0
"""How long the prices of an estimate are kept."""
DIMENSIONS: Final[tuple[CostDimension, ...]] = ("team", "model", "provider", "band", "key", "labels")


class Door(NamedTuple):
    """Where the API is and with which key to ask. None: found by the SDK (environment, else nearest `.onceq/`).

    `key_name` says to a person which key that is, `remedy` what to do when it is refused. Never printed whole: it
    holds the key.
    """

    base_url: str | None
    api_key: str | None
    key_name: str
    remedy: str = ""

    def __repr__(self) -> str:
        return f"Door({self.base_url!r}, {self.key_name})"


class Filters(NamedTuple):
    """Which jobs to list; None is any."""

    status: Status | None = None
    model: str | None = None
    team: str | None = None


class Letters(NamedTuple):
    """Which dead letters; None is any. `error` is the code of its error."""

    error: str | None = None
    model: str | None = None
    team: str | None = None


class Replayed(NamedTuple):
    """How many new jobs were `made`, and why others were not: sentences in Markdown with how many jobs each."""

    made: int
    refused: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a reading failed: one sentence in Markdown, in which everything that comes from elsewhere is escaped."""

    kind: Kind
    sentence: str


class SourceError(Exception):
    """A reading failed; `trouble` says why."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.sentence)
        self.trouble = trouble


def stats(door: Door) -> Stats:
    """The queue now and the last 24 hours."""
    return _told(_stats(door))


def health(door: Door) -> Health:
    """Whether the service is ready."""
    return _told(_health(door))


def costs(door: Door, days: int) -> list[CostPoint]:
    """Sums by hour (of the last 24, this one included) for one day, by day (UTC, today included) for more."""
    return _told(_costs(door, days))


def latency(door: Door, days: int) -> list[CostPoint]:
    """Sums by hour, model and band of the last `days` times 24 hours, this one included."""
    return _told(_latency(door, days))


def lanes(door: Door) -> Lanes:
    """What limits and brakes the models."""
    return _told(_lanes(door))


def newest(door: Door, filters: Filters, size: int) -> list[Job]:
    """The newest `size` jobs, without what they said."""
    return _told(_newest(door, filters, size))


def dead_letters(door: Door, wanted: Letters, size: int) -> list[Job]:
    """The newest `size` failed jobs that nobody has asked again, without what they said."""
    return _told(_dead_letters(door, wanted, size))


def prices(door: Door) -> dict[Work, Fraction]:
    """What an answer has cost lately, by model."""
    return _told(_prices(door))


def scopes(door: Door) -> frozenset[Scope]:
    """What the key of this door may do."""
    return _told(_scopes(door))


def job(door: Door, job_id: str) -> Job:
    """The job as it stands."""
    return _told(_job(door, job_id))


def ledger(door: Door, job_id: str) -> list[LedgerEntry]:
    """What was booked for the job, oldest first."""
    return _told(_ledger(door, job_id))


def walk(door: Door, filters: Filters, size: int) -> Iterator[Job]:
    """All jobs, newest first, fetched by pages of `size` as they are asked for; without what they said."""
    with _translated(door):
        yield from _listed(door, filters, size)


def cancel(door: Door, job_id: str) -> Job:
    """Cancel the job for all who joined it."""
    with _translated(door):
        cancelled = _client(door).cancel(job_id)
    _job.clear(door, job_id)
    return cancelled


def replay(door: Door, job_id: str) -> str:
    """Ask an ended job's question again; the new job's id. It may be billed again."""
    with _translated(door):
        again = _client(door).replay(job_id).id
    _job.clear(door, job_id)
    return again


def replay_all(door: Door, wanted: Letters, number: int) -> Replayed:
    """Ask the newest `number` dead letters that fit again. Sent once: sent again it would go on with the next ones."""
    with _translated(door), Client(door.base_url, door.api_key, timeout_s=PATIENT_S, max_retries=0) as patient:
        asked = patient.replay_all(error=wanted.error, model=wanted.model, team=wanted.team, limit=number)
    _dead_letters.clear()
    _stats.clear(door)
    why = Counter(_trouble(item, door).sentence for item in asked if isinstance(item, OnceqError))
    return Replayed(len(asked) - why.total(), tuple(why.most_common()))


def opens(door: Door) -> bool:
    """Whether there is a base URL and a key to ask with; nothing is sent."""
    try:
        base_url(door)
    except SourceError:
        return False
    return True


def base_url(door: Door) -> str:
    """Where the API is, for people."""
    with _translated(door):
        return _client(door).base_url


def _close(client: Client) -> None:
    client.close()


@st.cache_resource(max_entries=100, show_spinner=False, on_release=_close)
def _client(door: Door) -> Client:
    return Client(door.base_url, door.api_key, timeout_s=TIMEOUT_S, max_retries=1)


@st.cache_data(ttl=KEEP_S, max_entries=200, show_spinner=False)
def _stats(door: Door) -> Stats | Trouble:
    return _tried(door, lambda: _client(door).stats())


@st.cache_data(ttl=KEEP_S, max_entries=200, show_spinner=False)
def _health(door: Door) -> Health | Trouble:
    return _tried(door, lambda: _client(door).health())


@st.cache_data(ttl=KEEP_S, max_entries=200, show_spinner=False)
def _costs(door: Door, days: int) -> list[CostPoint] | Trouble:
    now = datetime.now(UTC)
    if days == 1:
        since, interval = now - timedelta(hours=23), "hour"
    else:
        since, interval = now - timedelta(days=days - 1), "day"
    return _tried(door, lambda: _client(door).costs(group_by=DIMENSIONS, interval=interval, since=since).points)


@st.cache_data(ttl=KEEP_S, max_entries=200, show_spinner=False)
def _latency(door: Door, days: int) -> list[CostPoint] | Trouble:
    since = datetime.now(UTC) - timedelta(hours=24 * days - 1)
    by: tuple[CostDimension, ...] = ("model", "band")
    return _tried(door, lambda: _client(door).costs(group_by=by, interval="hour", since=since).points)


@st.cache_data(ttl=KEEP_S, max_entries=200, show_spinner=False)
def _lanes(door: Door) -> Lanes | Trouble:
    return _tried(door, lambda: _client(door).lanes())


@st.cache_data(ttl=KEEP_S, max_entries=200, show_spinner=False)
def _newest(door: Door, filters: Filters, size: int) -> list[Job] | Trouble:
    return _tried(door, lambda: list(islice(_listed(door, filters, size), size)))


@st.cache_data(ttl=KEEP_S, max_entries=200, show_spinner=False)
def _job(door: Door, job_id: str) -> Job | Trouble:
    return _tried(door, lambda: _client(door).get(job_id))


@st.cache_data(ttl=KEEP_S, max_entries=200, show_spinner=False)
def _ledger(door: Door, job_id: str) -> list[LedgerEntry] | Trouble:
    return _tried(door, lambda: list(_client(door).ledger(job_id)))


@st.cache_data(ttl=KEEP_S, max_entries=200, show_spinner=False)
def _dead_letters(door: Door, wanted: Letters, size: int) -> list[Job] | Trouble:
    def read() -> list[Job]:
        found = _client(door).list(
            status="failed", replayed=False, error=wanted.error, model=wanted.model, team=wanted.team, page_size=size
        )
        return [letter.model_copy(update={"output": None}) for letter in islice(found, size)]

    return _tried(door, read)


@st.cache_data(ttl=PRICES_S, max_entries=200, show_spinner=False)
def _prices(door: Door) -> dict[Work, Fraction] | Trouble:
    since = datetime.now(UTC) - timedelta(days=estimate.DAYS - 1)
    return _tried(door, lambda: estimate.prices(_client(door).costs(group_by=["model"], since=since).points))


@st.cache_data(ttl=KEEP_S, max_entries=200, show_spinner=False)
def _scopes(door: Door) -> frozenset[Scope] | Trouble:
    return _tried(door, lambda: frozenset(_client(door).whoami().scopes))


def _listed(door: Door, filters: Filters, size: int) -> Iterator[Job]:
    found = _client(door).list(status=filters.status, model=filters.model, team=filters.team, page_size=size)
    for found_job in found:
        yield found_job.model_copy(update={"output": None})  # a table has no use for it, and it may be megabytes


def _tried(door: Door, read: Callable[[], T]) -> T | Trouble:
    try:
        with _translated(door):
            return read()
    except SourceError as exc:
        return exc.trouble


def _told(reading: T | Trouble) -> T:
    if isinstance(reading, Trouble):
        raise SourceError(reading)
    return reading


@contextmanager
def _translated(door: Door) -> Generator[None]:
    """The one place where the SDK's errors become sentences."""
    try:
        yield
    except OnceqError as exc:
        if isinstance(exc, AuthenticationError):
            _client.clear(door)  # the key in .onceq/ may be a new one by the next reading
        raise SourceError(_trouble(exc, door)) from exc


def _trouble(exc: OnceqError, door: Door) -> Trouble:
    match exc:
        case APIError():
            return _refused(exc, door)
        case ConnectionFailed():
            return Trouble("away", f"onceq's API at {_place(door)} does not answer: is `onceq up` running?")
        case ConfigurationError():
            return Trouble("settings", literal(str(exc)))
        case _:
            return Trouble("other", literal(str(exc)))


def _refused(exc: APIError, door: Door) -> Trouble:
    match exc:
        case AuthenticationError():
            return Trouble("key", f"onceq's API at {_place(door)} does not know {door.key_name}. {door.remedy}")
        case PermissionDeniedError():
            return Trouble("scope", f"{_capital(door.key_name)} may not do that: {literal(exc.detail)}")
        case NotFoundError():
            return Trouble("missing", f"There is no such job for {door.key_name}, or its time is over.")
        case ServiceUnavailableError():
            return Trouble("unavailable", f"onceq's API at {_place(door)} can't answer now: {literal(exc.detail)}")
        case _:
            return Trouble("other", f"onceq's API refused this: {literal(exc.detail)} ({code_span(exc.code)})")


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _place(door: Door) -> str:
    return code_span(_client(door).base_url)
