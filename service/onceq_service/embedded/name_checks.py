"""Names that name nothing, as checks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from onceq_service.embedded.check import Check
from onceq_service.names import meant, unknown_names, unread
from onceq_service.settings import FileConfig


def variable_checks(env: Mapping[str, str], file: FileConfig) -> Iterator[Check]:
    """One line for each variable that nothing reads."""
    for name, guess in unread(env, file):
        yield Check("warn", f"variable {name}", "is set, and nothing reads it", meant(guess) or "unset it")


def name_checks(file: FileConfig, lanes: Iterable[str]) -> Iterator[Check]:
    """One line for each model of an alias, and each lane, that nobody can be asked for."""
    for found in unknown_names(file, lanes):
        yield Check("fail", *found)
