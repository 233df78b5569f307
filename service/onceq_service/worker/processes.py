"""The processes of `onceq worker`: Taskiq's manager starts them; they drain when it has gone, even if it was killed.

Each holds the reading end of a pipe whose writing end only the manager has, as the API's processes do. A worker without
a manager would go on claiming with the code and the keys of a deploy that is over.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from typing import Final

from taskiq.cli.worker.args import WorkerArgs
from taskiq.cli.worker.process_manager import ProcessManager
from taskiq.cli.worker.run import start_listen

from onceq_service.logs import configure_logs
from onceq_service.settings import Settings

PR_SET_PDEATHSIG: Final = 1
"""Linux's number for it: the signal that a process gets when its parent has ended."""


def run_worker(args: WorkerArgs, settings: Settings) -> int | None:
    """Runs the processes until SIGINT or SIGTERM and waits until they have drained; an exit code, or None for 0."""
    told, tell = os.pipe()
    with Connection(told, writable=False) as lifeline, Connection(tell, readable=False) as manager_lives:
        manager = ProcessManager(args, partial(_child, settings, lifeline, manager_lives))
        status = manager.start()
        for process in manager.workers:
            process.join()
    return status


def _child(settings: Settings, lifeline: Connection, manager_lives: Connection, args: WorkerArgs) -> None:
    configure_logs(settings, multiprocessing.current_process().name)
    manager_lives.close()  # a forked process has a copy, and would wait for itself
    if sys.platform == "linux":  # the kernel says it; a thread beside a fork is one more thing to go wrong
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    else:
        threading.Thread(target=_drain_with_manager, args=(lifeline,), name="lifeline", daemon=True).start()
    start_listen(args)


def _drain_with_manager(lifeline: Connection) -> None:
    with suppress(EOFError, OSError):
        lifeline.recv_bytes()  # nobody writes to it; its end is the news
    os.kill(os.getpid(), signal.SIGTERM)
