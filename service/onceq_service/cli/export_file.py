"""A file of ledger rows that grows: what is new is added beside it, then takes its place in one step.

The last row in the file says where to go on, so nothing else has to be remembered. A CSV export that was killed goes on
from the part file that it left; a Parquet one begins again where the whole file ends.
"""

from __future__ import annotations

import csv
import fcntl
import os
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from onceq.errors import ConfigurationError
from onceq.export import COLUMNS, arrow_table, csv_text, parquet_schema
from onceq.wire import LedgerPage

Pages = Callable[[str | None], Iterable[LedgerPage]]
"""The pages behind a row's id; None: from the beginning."""


@dataclass(slots=True)
class Exported:
    """How many rows were added, and whether some may be missing: those before this time had left the ledger."""

    after: str | None
    """The last row so far."""
    added: int = 0
    missed_before: datetime | None = None

    def note(self, page: LedgerPage) -> None:
        """Counts the next page."""
        self.added += len(page.entries)
        wanted = _booked_at(self.after) or page.since
        self.after = page.entries[-1].id if page.entries else self.after
        if page.kept_since is not None and (wanted is None or wanted < page.kept_since):
            self.missed_before = page.kept_since


def _booked_at(row_id: str | None) -> datetime | None:
    return None if row_id is None else datetime.fromtimestamp(int(row_id.partition("-")[0]) / 1000, UTC)


def update(out: Path, pages: Pages) -> Exported:
    """Adds the rows that are not in the file yet. Raises ConfigurationError for a file that is not such an export."""
    writers = {".csv": _update_csv, ".parquet": _update_parquet}
    write = writers.get(out.suffix.lower())
    if write is None:
        raise ConfigurationError(f"{out} is neither .csv nor .parquet: name one that is.")
    if not out.absolute().parent.is_dir():
        raise ConfigurationError(f"the folder of {out} does not exist: make it first.")
    with _alone(out):
        return write(out, out.with_name(f"{out.name}.part"), pages)


@contextmanager
def _alone(out: Path) -> Generator[None]:
    """Two exports into one file would write over each other."""
    path = out.with_name(f".{out.name}.lock")
    with path.open("w") as lock:
        if not owns(lock, path):
            raise ConfigurationError(f"another export writes {out} now: wait for it.")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def owns(lock: IO[str], path: Path) -> bool:
    """Whether the file is ours; one that its last owner has removed meanwhile keeps nobody out any more."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(lock.fileno()), path.stat())
    except OSError:
        return False


def _update_csv(out: Path, part: Path, pages: Pages) -> Exported:
    whole = last_csv_row(out)
    begun = last_csv_row(part)
    if begun.size <= whole.size:
        begun = whole
        if out.exists():
            shutil.copyfile(out, part)
    found, head = Exported(begun.id), begun.size == 0
    with part.open("ab") as file:
        file.truncate(begun.size)
        for page in pages(begun.id):
            found.note(page)
            file.write(csv_text(page.entries, head=head).encode())
            head = False
        _settle(file)
    part.replace(out)
    return found


@dataclass(frozen=True, slots=True)
class LastRow:
    """The last row that is whole, and where it ends; what a killed export left behind it is to be cut off."""

    id: str | None = None
    size: int = 0


def last_csv_row(path: Path) -> LastRow:
    """Reads the file through, as only that tells a line's end from one inside of a cell."""
    if not path.exists():
        return LastRow()
    found, lines = LastRow(), _Lines(path)
    with lines:
        for row in csv.reader(lines):
            if found.size == 0 and lines.whole and row != list(COLUMNS):
                raise _other_columns(path, row)
            if len(row) == len(COLUMNS) and lines.whole:
                found = LastRow(row[0] if found.size else None, lines.size)
    return found


class _Lines:
    """A file's lines, with how many bytes were handed out and whether the last line had its end."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self.size, self.whole = 0, False

    def __iter__(self) -> Iterator[str]:
        for line in self._file:
            self.size, self.whole = self.size + len(line), line.endswith(b"\r\n")
            yield line.decode("utf-8", "replace")

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _update_parquet(out: Path, part: Path, pages: Pages) -> Exported:
    schema, pq = parquet_schema(), import_module("pyarrow.parquet")
    with pq.ParquetWriter(part, schema) as writer:
        after = _copy_parquet(out, writer, schema, pq) if out.exists() else None
        found = Exported(after)
        for page in pages(after):
            found.note(page)
            writer.write_table(arrow_table(page.entries))
    if found.added == 0 and out.exists():
        part.unlink()
        return found
    with part.open("rb") as file:
        _settle(file)
    part.replace(out)
    return found


def _copy_parquet(out: Path, writer: Any, schema: Any, pq: Any) -> str | None:
    """Copies a file group by group; the id of its last row."""
    last: str | None = None
    with pq.ParquetFile(out) as old:
        if not old.schema_arrow.equals(schema):
            raise _other_columns(out, old.schema_arrow.names)
        for n in range(old.num_row_groups):
            table = old.read_row_group(n)
            writer.write_table(table)
            if table.num_rows:
                last = table["row_id"][-1].as_py()
    return last


def _other_columns(path: Path, has: Sequence[str]) -> ConfigurationError:
    """New rows would not stand below their headings: nothing is added to such a file."""
    lacks, more = [c for c in COLUMNS if c not in has], [c for c in has if c not in COLUMNS]
    if len(more) == len(has):
        what = "it is no export of a ledger"
    else:
        told = (f"lacks {', '.join(lacks)}" if lacks else "", f"has {', '.join(more)} besides" if more else "")
        what = f"it {' and '.join(t for t in told if t) or 'has them in another order or of another type'}"
    return ConfigurationError(
        f"{path} has other columns than this version of onceq writes: {what}. Nothing was added to it. Keep it, and "
        "name a new file: that one gets every row that the ledger still has."
    )


def _settle(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())
