"""What clients, readers and the saboteur saw, one JSON line each: written with one append, so a kill tears none.

`invoke` begins something, `ok` and `fail` are its known outcomes, `info` is what may or may not have happened.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Literal

import msgspec

Op = Literal["post", "read", "cancel", "fault"]
Kind = Literal["invoke", "ok", "fail", "info"]


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line. `t` is Unix time in seconds; the other fields are set where they mean something."""

    op: Op
    kind: Kind
    t: float
    who: str = ""
    api: int = -1
    key: str = ""
    job: str = ""
    status: str = ""
    seq: int = 0
    frame: str = ""
    """An event as the reader got it, with its blank line."""
    note: str = ""
    jobs: tuple[str, ...] = ()
    """The jobs that a killed worker held."""
    seqs: tuple[int, ...] = ()
    """Of the last event of each of them by then."""


class History:
    """An append-only file of records."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, op: Op, kind: Kind, **fields: Any) -> None:
        """Appends one record with the present time."""
        self.append(Record(op, kind, time.time(), **fields))

    def append(self, record: Record) -> None:
        """Appends it."""
        os.write(self._fd, msgspec.json.encode(record) + b"\n")

    def read(self) -> list[Record]:
        """All records so far."""
        decode = msgspec.json.Decoder(Record).decode
        return [decode(line) for line in self.path.read_bytes().splitlines()]

    def close(self) -> None:
        """Closes the file; call once."""
        os.close(self._fd)
