"""One child process of `onceq up`: in a process group of its own, with a log of its own, told when we are gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from onceq_service.embedded.waiting import wait_until

LOG_BYTES: Final = 10 * 1024 * 1024
"""A log longer than this is put aside (`.1`) at the next start."""
LONGEST_BACKOFF_S: Final = 30.0
SETTLED_S: Final = 60.0
"""A child that has lived this long starts its backoff anew when it dies."""


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """How to start a child, and when it is ready."""

    name: str
    arguments: tuple[str, ...]
    env: Mapping[str, str]
    ready: Callable[[], bool]


class Child:
    """A child and its restarts. Its standard input is a pipe that we hold and never write to: its end is our end."""

    def __init__(self, spec: ProcessSpec, logs: Path) -> None:
        self.spec = spec
        self.log = logs / f"{spec.name}.log"
        self.deaths = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._begun = 0.0
        self._log_start = 0

    @property
    def name(self) -> str:
        """What it is called in logs and messages."""
        return self.spec.name

    @property
    def pid(self) -> int | None:
        """Its process; None before the start and after the stop."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Starts it; whether it gets ready is another question."""
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(  # noqa: S603 - our own argv
                [sys.executable, "-m", "onceq_service", *self.spec.arguments],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(self.spec.env),
                process_group=0,  # Ctrl-C must reach only us: we decide the order of stopping
            )
        self._begun = time.monotonic()

    def exit_code(self) -> int | None:
        """Its exit code once it has ended; None while it runs."""
        return self._process.poll() if self._process else None

    def record_exit(self) -> float:
        """After a death: tells what is left of its group to end; seconds to wait before the next start."""
        self._signal_group(signal.SIGTERM)
        self._forget()
        self.deaths = 1 if time.monotonic() - self._begun > SETTLED_S else self.deaths + 1
        return min(0.5 * 2 ** (self.deaths - 1), LONGEST_BACKOFF_S)

    def terminate(self) -> None:
        """Asks it to end in its own time."""
        if self._process and self._process.poll() is None:
            self._process.terminate()

    def wait(self, grace_s: float, hurry: Callable[[], bool]) -> None:
        """Waits for the end that was asked for; after the grace, or when there is a hurry, it is killed."""
        if self._process is None:
            return
        wait_until(lambda: self.exit_code() is not None or hurry(), grace_s)
        self._signal_group(signal.SIGKILL)
        self._process.wait()
        self._forget()

    def log_tail(self, lines: int = 3) -> str:
        """The end of what this start of it has written to its log."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            text = log.read().decode("utf-8", "replace")
        return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])

    def _signal_group(self, number: signal.Signals) -> None:
        """Reaches what the child has started too, and left behind."""
        if self._process:
            with suppress(ProcessLookupError, PermissionError):  # PermissionError: macOS, for a group of zombies
                os.killpg(self._process.pid, number)

    def _forget(self) -> None:
        if self._process and self._process.stdin:
            self._process.stdin.close()
        self._process = None
