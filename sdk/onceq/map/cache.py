"""The local memory of what was asked and answered: a SQLite file beside the notebook, or nothing.

A row is in it from before its request leaves (so that a kernel lost in between does not forget it), with its answer
once there is one. It outlives the service's retention, and can be copied to another machine.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from onceq.errors import ConfigurationError

FILE: Final = "onceq-map.sqlite"
"""Its name, in the working directory, which is the notebook's."""
_PAGE: Final = 500
_TABLE: Final = """
create table if not exists rows (
    scope text not null, key blob not null, generation text not null, attempt integer not null,
    sent_at real not null, job_id text, outcome text, primary key (scope, key)
) without rowid
"""
_SCOPES: Final = "create table if not exists scopes (contact blob primary key, scope text not null) without rowid"
_SENT: Final = """
insert into rows values (?, ?, ?, ?, ?, null, null) on conflict (scope, key) do update set
    job_id = iif(generation = excluded.generation and attempt = excluded.attempt, job_id, null),
    sent_at = iif(generation = excluded.generation and attempt = excluded.attempt, sent_at, excluded.sent_at),
    generation = excluded.generation, attempt = excluded.attempt, outcome = null
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an ask: a job's end, or why there was none (`status` is then one of map's own)."""

    status: str
    text: str | None = None
    cost_nano_usd: int | None = 0
    """None: the provider may charge, and the price is not known."""
    ttft_s: float | None = None
    tokens: int | None = None
    job_id: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """What is remembered of a row: when it was sent, as which job, and its outcome where it has ended."""

    generation: str
    attempt: int
    sent_at: float
    job_id: str | None
    outcome: Outcome | None


class Cache(Protocol):
    """Remembers rows by content key, each within a scope: a tenant, and whether its answers are simulated."""

    @property
    def where(self) -> str | None:
        """The file; None where there is none."""
        ...

    def get(self, scope: str, keys: Sequence[bytes]) -> Mapping[bytes, CacheEntry]:
        """What is known of these."""
        ...

    def scope(self, contact: bytes) -> str | None:
        """The scope that the service named to this contact the last time."""
        ...

    def named(self, contact: bytes, scope: str) -> None:
        """Says which scope it has named."""
        ...

    def sent(self, scope: str, rows: Iterable[tuple[bytes, str, int]]) -> None:
        """Says that these (key, generation, attempt) are about to be sent."""
        ...

    def accepted(self, scope: str, rows: Iterable[tuple[bytes, str]]) -> None:
        """Says which jobs they have become."""
        ...

    def done(self, scope: str, rows: Iterable[tuple[bytes, Outcome]]) -> None:
        """Says how they have ended."""
        ...

    def forget(self, scope: str, keys: Iterable[bytes]) -> None:
        """Takes back `sent` of what was refused."""
        ...

    def close(self) -> None:
        """Leaves the file."""
        ...


class NoCache:
    """Remembers nothing."""

    where: str | None = None

    def get(self, scope: str, keys: Sequence[bytes]) -> Mapping[bytes, CacheEntry]:
        """Nothing."""
        return {}

    def scope(self, contact: bytes) -> str | None:
        """Nothing."""
        return None

    def named(self, contact: bytes, scope: str) -> None:
        """Nothing."""

    def sent(self, scope: str, rows: Iterable[tuple[bytes, str, int]]) -> None:
        """Nothing."""

    def accepted(self, scope: str, rows: Iterable[tuple[bytes, str]]) -> None:
        """Nothing."""

    def done(self, scope: str, rows: Iterable[tuple[bytes, Outcome]]) -> None:
        """Nothing."""

    def forget(self, scope: str, keys: Iterable[bytes]) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class SqliteCache:
    """The file. Several kernels may use it at once; a change is there for the next process, however this one ends."""

    def __init__(self, path: Path) -> None:
        self.where: str | None = str(path)
        try:
            self._db = sqlite3.connect(path, timeout=30.0, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as exc:
            raise _unusable(self.where, exc, "Nothing was sent.") from exc
        try:
            self._prepare()
        except sqlite3.Error as exc:
            self._db.close()
            raise _unusable(self.where, exc, "Nothing was sent.") from exc

    def _prepare(self) -> None:
        with suppress(sqlite3.OperationalError):  # a file system without shared memory keeps the plain journal
            self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = normal")
        self._db.execute(_TABLE)
        self._db.execute(_SCOPES)

    def get(self, scope: str, keys: Sequence[bytes]) -> Mapping[bytes, CacheEntry]:
        """What is known of these."""
        found: dict[bytes, CacheEntry] = {}
        for start in range(0, len(keys), _PAGE):
            page = keys[start : start + _PAGE]
            marks = ",".join("?" * len(page))
            query = f"select key, generation, attempt, sent_at, job_id, outcome from rows where scope = ? and key in ({marks})"  # noqa: S608, E501 - marks alone
            found.update((row[0], _entry(row)) for row in self._read(query, (scope, *page)))
        return found

    def scope(self, contact: bytes) -> str | None:
        """The scope that the service named to this contact the last time."""
        return next((row[0] for row in self._read("select scope from scopes where contact = ?", (contact,))), None)

    def named(self, contact: bytes, scope: str) -> None:
        """Says which scope it has named."""
        if self.scope(contact) != scope:  # most maps have nothing to write here
            self._write("insert or replace into scopes values (?, ?)", [(contact, scope)])

    def sent(self, scope: str, rows: Iterable[tuple[bytes, str, int]]) -> None:
        """Says that these (key, generation, attempt) are about to be sent; a job that is the same attempt's stays."""
        now = time.time()
        self._write(
            _SENT,
            ((scope, key, generation, attempt, now) for key, generation, attempt in rows),
        )

    def accepted(self, scope: str, rows: Iterable[tuple[bytes, str]]) -> None:
        """Says which jobs they have become."""
        self._write("update rows set job_id = ? where scope = ? and key = ?", ((job, scope, key) for key, job in rows))

    def done(self, scope: str, rows: Iterable[tuple[bytes, Outcome]]) -> None:
        """Says how they have ended."""
        self._write(
            "update rows set job_id = ?, outcome = ? where scope = ? and key = ?",
            ((outcome.job_id, json.dumps(asdict(outcome)), scope, key) for key, outcome in rows),
        )

    def forget(self, scope: str, keys: Iterable[bytes]) -> None:
        """Takes back `sent` of what was refused."""
        self._write("delete from rows where scope = ? and key = ? and job_id is null", ((scope, key) for key in keys))

    def close(self) -> None:
        """Leaves the file."""
        self._db.close()

    def _read(self, query: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.Error as exc:
            raise _unusable(self.where, exc, "What was posted goes on, and is paid once.") from exc

    def _write(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
        try:
            self._db.execute("begin immediate")
            self._db.executemany(statement, rows)
            self._db.execute("commit")
        except sqlite3.Error as exc:
            with suppress(sqlite3.Error):  # where it did not begin
                self._db.execute("rollback")
            raise _unusable(self.where, exc, "What was posted goes on, and is paid once.") from exc


def open_cache(cache: bool | str | Path) -> Cache:
    """The cache that was asked for: a file of this name, the default one (True), or none (False).

    Raises ConfigurationError when the file is not one, or can't be written.
    """
    if cache is False:
        return NoCache()
    return SqliteCache(Path(FILE) if cache is True else Path(cache))


def _entry(row: tuple[Any, ...]) -> CacheEntry:
    _, generation, attempt, sent_at, job_id, outcome = row
    return CacheEntry(generation, attempt, sent_at, job_id, Outcome(**json.loads(outcome)) if outcome else None)


def _unusable(where: str | None, exc: sqlite3.Error, state: str) -> ConfigurationError:
    return ConfigurationError(
        f"the cache {where} can't be used ({exc}): name another file with cache='...', or go without it (cache=False), "
        f"and finished rows are kept by the service alone, for a day. {state}"
    )
