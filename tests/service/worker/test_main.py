"""What a worker does before it forks."""

from __future__ import annotations

import subprocess
import sys

FORK = """
import gc
from onceq_service.settings import load_settings
from onceq_service.worker import main
main.run_worker = lambda _: print(gc.get_freeze_count(), len(gc.get_objects()))
main.run(load_settings())
"""

WAY = """
import multiprocessing
from onceq_service.settings import load_settings
from onceq_service.worker import main
main.run_worker = lambda _: print(multiprocessing.get_start_method(allow_none=True))
main.run(load_settings())
"""


def test_what_is_there_before_the_fork_is_shared_for_good() -> None:
    """A garbage collector that sees it would write into all of it, once in each process."""
    printed = subprocess.run([sys.executable, "-c", FORK], check=True, capture_output=True, text=True).stdout
    frozen, seen = map(int, printed.split())
    assert frozen > 100 * seen


def test_children_are_forked_whatever_python_s_default_is() -> None:
    """Python 3.14 begins them from a process that has nothing of what is imported and set up here."""
    printed = subprocess.run([sys.executable, "-c", WAY], check=True, capture_output=True, text=True).stdout
    assert printed.split() == ["fork"]
