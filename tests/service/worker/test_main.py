"""What a worker does before it forks."""

from __future__ import annotations

import os
import subprocess
import sys

from onceq_service.settings import Settings

FORK = """
import gc
from onceq_service.settings import load_settings
from onceq_service.worker import main
main.run_worker = lambda *_: print(gc.get_freeze_count(), len(gc.get_objects()))
main.run(load_settings())
"""

WAY = """
import multiprocessing
from onceq_service.settings import load_settings
from onceq_service.worker import main
main.run_worker = lambda *_: print(multiprocessing.get_start_method(allow_none=True))
main.run(load_settings())
"""

CHOSEN = """
from onceq_service.settings import load_settings
from onceq_service.worker import main
main.run_worker = lambda *_: print(load_settings().worker_concurrency)
main.run(load_settings(worker_concurrency=32))
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


def test_an_option_wins_over_a_variable_in_the_children_too_where_it_is_the_default() -> None:
    assert Settings.model_fields["worker_concurrency"].default == 32
    env = os.environ | {"ONCEQ_WORKER_CONCURRENCY": "5"}
    printed = subprocess.run([sys.executable, "-c", CHOSEN], env=env, check=True, capture_output=True, text=True).stdout
    assert printed.split() == ["32"]
