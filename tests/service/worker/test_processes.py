"""The manager of worker processes is killed: they drain and end, as if they had been told to."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator

import pytest

from onceq import Client
from onceq_service.embedded.redis_server import EmbeddedRedis
from tests.service.api.test_processes import group_of
from tests.stack import WORKER, Process, Stack, running_stack, start
from tests.waiting import wait_until

SLOW = "[[sim tokens=160 tps=40 ttft_ms=10]]"
SPAWNED = """
import multiprocessing
from onceq_service.settings import load_settings
from onceq_service.worker.main import worker_args
from onceq_service.worker.processes import run_worker

multiprocessing.set_start_method("spawn")
run_worker(worker_args(load_settings()), load_settings())
"""
"""As on macOS."""


@pytest.fixture
def own(redis_server: EmbeddedRedis) -> Generator[Stack]:
    with running_stack(redis_server, workers=1, drain_s="20") as stack:
        stack.worker.stop()
        yield stack


@pytest.mark.parametrize("code", [WORKER, SPAWNED], ids=["forked", "spawned"])
def test_processes_whose_manager_was_killed_finish_what_they_run_claim_nothing_more_and_end(
    own: Stack, code: str
) -> None:
    workers = start([sys.executable, "-c", code], own.env | {"ONCEQ_WORKER_PROCESSES": "2"}, own.folder / "two.log")
    try:
        with Client(base_url=own.url, api_key=own.api_key, model="openai/gpt-4o-mini") as client:
            runs = client.submit(f"runs {SLOW}")
            wait_until(lambda: own.meter(runs.id), "the call to begin", timeout_s=60)
            os.kill(workers.popen.pid, signal.SIGKILL)
            assert runs.wait(60).status == "succeeded"
            wait_until(lambda: not group_of(workers), "the processes to end")
            waits = client.submit("waits")
            assert len(own.meter(runs.id)) == 1
            own.start_worker()
            assert waits.wait(60).status == "succeeded"
    finally:
        kill(workers)


def kill(workers: Process) -> None:
    """Those that a failing test would leave behind."""
    for pid in group_of(workers):
        os.kill(pid, signal.SIGKILL)
    workers.popen.wait(10)
