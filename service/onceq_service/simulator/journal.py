"""The journal: one JSON line when a request arrives and one when it has ended. Never a header, key or prompt."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

import msgspec


class Journal(Protocol):
    """Where the lines go."""

    def write(self, entry: dict[str, object]) -> None:
        """Append one line."""
        ...

    def close(self) -> None:
        """Write no more."""
        ...


class NoJournal:
    """Nowhere."""

    def write(self, entry: dict[str, object]) -> None:
        """Forget it."""

    def close(self) -> None:
        """Nothing is open."""


class FileJournal:
    """A file of JSON lines. Each line is one append, so that several writers do not mix theirs."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, entry: dict[str, object]) -> None:
        """Append one line."""
        os.write(self._file, msgspec.json.encode(entry) + b"\n")

    def close(self) -> None:
        """Close the file; call once."""
        os.close(self._file)


def open_journal(path: Path | None) -> Journal:
    """A journal in this file, or none."""
    return FileJournal(path) if path else NoJournal()
