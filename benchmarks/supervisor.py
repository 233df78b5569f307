"""Ends all that a benchmark has started, whatever it is just doing when it is told to stop.

An exception from a signal handler can strike anywhere: in a callback of a weak reference it is only printed, in a pool
of processes it leaves a thread that waits for ever. So the work is done by a child, and its parent, which waits for
signals and does nothing else, kills the child and all that comes from it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final

PR_SET_PDEATHSIG: Final = 1
PR_SET_CHILD_SUBREAPER: Final = 36
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


def supervised(work: Callable[[], int]) -> int:
    """What `work` returns, or 128 and a signal's number; no process and no temporary file of it is left. For Linux."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)  # what loses its parent becomes a child of ours
    told = _signals()
    with tempfile.TemporaryDirectory(prefix="oq-", ignore_cleanup_errors=True) as folder:
        worker = get_context("fork").Process(target=_work, args=(work, folder))
        worker.start()
        try:
            return _outcome(worker, told)
        finally:
            _end_children()


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _signals() -> int:
    """Where the numbers of signals can be read from, whichever thread they come to: some libraries start threads."""
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell)
    for number in SIGNALS:
        signal.signal(number, _nothing)
    return told


def _nothing(*_: object) -> None:
    """A signal that has a handler ends no process."""


def _work(work: Callable[[], int], folder: str) -> None:
    signal.set_wakeup_fd(-1)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setsid()  # Ctrl-C is told to the parent alone
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    sys.exit(work())


def _outcome(worker: BaseProcess, told: int) -> int:
    while worker.is_alive():
        number = os.read(told, 1)[0]
        if number != signal.SIGCHLD:
            return 128 + number
    code = worker.exitcode or 0
    return code if code >= 0 else 128 - code


def _end_children() -> None:
    with suppress(ChildProcessError):  # there is none any more
        while True:
            for pid in _children():
                os.kill(pid, signal.SIGKILL)
            os.waitpid(-1, 0)


def _children() -> list[int]:
    found = Path("/proc/self/task").glob("*/children")
    return [int(pid) for path in found for pid in path.read_text("ascii").split()]
