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

PR_SET_CHILD_SUBREAPER: Final = 36
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)


def supervised(work: Callable[[], int]) -> int:
    """What `work` returns, or 128 and a signal's number; no process and no temporary file of it is left. For Linux."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # what loses its parent becomes a child of ours
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    with tempfile.TemporaryDirectory(prefix="oq-", ignore_cleanup_errors=True) as folder:
        worker = get_context("fork").Process(target=_work, args=(work, folder))
        worker.start()
        try:
            return _outcome(worker)
        finally:
            _end_children()


def _work(work: Callable[[], int], folder: str) -> None:
    os.setsid()  # Ctrl-C is told to the parent alone
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    tempfile.tempdir = folder
    sys.exit(work())


def _outcome(worker: BaseProcess) -> int:
    while worker.is_alive():
        told = signal.sigwait(SIGNALS)
        if told != signal.SIGCHLD:
            return 128 + told
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
