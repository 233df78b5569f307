"""What a worker says: JSON where that is asked for, UTC, failures by job and code, an outage once; nobody's words."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Generator
from datetime import datetime, timedelta
from typing import Any

import pytest

from onceq import Client
from onceq_service.embedded.redis_server import EmbeddedRedis
from tests.stack import Process, Stack, running_stack, start
from tests.waiting import wait_until

MODEL = "openai/gpt-4o-mini"
SECRET = "sesame"
OWN_FAULTS = """
import logging
from onceq_service.settings import load_settings
from onceq_service.worker.broker import LeaseBroker
from onceq_service.worker.calling import Caller
from onceq_service.worker.main import run

def broken(self, t):
    raise ValueError("sesame in an exception")

async def shutdown(self):
    raise ValueError("sesame at the end")

Caller._spec = broken
LeaseBroker.shutdown = shutdown
run(load_settings())
"""


@pytest.fixture
def own(own_redis: EmbeddedRedis) -> Generator[Stack]:
    """One worker process that logs JSON."""
    with running_stack(own_redis, workers=1, drain_s="1", lease_s="4", log_json="true", max_tries="2") as stack:
        yield stack


def lines(process: Process) -> list[dict[str, Any]]:
    """All that it has said, each line a JSON object with a time in UTC."""
    said = [json.loads(line) for line in process.text().rpartition("\n")[0].splitlines()]
    assert all(datetime.fromisoformat(line["timestamp"]).utcoffset() == timedelta() for line in said)
    return said


def said(process: Process, event: str) -> list[dict[str, Any]]:
    return [line for line in lines(process) if line["event"] == event]


def test_a_try_that_is_made_again_and_a_job_that_failed_are_a_line_each_without_words(own: Stack) -> None:
    with Client(base_url=own.url, api_key=own.api_key, model=MODEL) as client:
        handle = client.submit(f"{SECRET} [[sim fault=cut after=2]]")
        assert handle.wait(60).status == "failed"
        [failed] = wait_until(lambda: said(own.worker, "a job failed"), "the failure in the log")
        [again] = said(own.worker, "a call failed and is made again")
        about = {"job": handle.id, "model": MODEL, "provider": "openai", "process": "worker-0"}
        assert about.items() <= failed.items()
        assert about.items() <= again.items()
        assert (again["call"], again["level"], failed["level"]) == (1, "info", "warning")
        assert failed["code"] == again["code"] == client.get(handle.id).error.code  # pyright: ignore[reportOptionalMemberAccess]
        assert SECRET not in own.worker.text()


def test_an_outage_of_redis_is_two_lines_a_process_however_many_jobs_wait(own: Stack, own_redis: EmbeddedRedis) -> None:
    with Client(base_url=own.url, api_key=own.api_key, model=MODEL) as client:
        handles = [client.submit(f"{n} [[sim tokens=80 tps=40 ttft_ms=10]]") for n in range(5)]
        wait_until(lambda: all(own.meter(h.id) for h in handles), "the calls to begin")
        before = len(lines(own.worker))
        assert own_redis.pid is not None
        os.kill(own_redis.pid, signal.SIGKILL)
        wait_until(own_redis.gone, "Redis to be gone")
        wait_until(lambda: said(own.worker, "Redis is away"), "the outage in the log")
        wait_until(lambda: all(own.meter(h.id)[0]["status"] == "completed" for h in handles), "the answers")
        own_redis.revive()
        assert all(handle.wait(60).status == "succeeded" for handle in handles)
        wait_until(lambda: said(own.worker, "Redis is back"), "its end in the log")
        assert [line["event"] for line in lines(own.worker)[before:]] == ["Redis is away", "Redis is back"]


def test_exceptions_of_our_code_are_logged_by_kind_and_place_also_where_taskiq_tells_of_them(own: Stack) -> None:
    own.worker.stop()
    faulty = start([sys.executable, "-c", OWN_FAULTS], own.env, own.folder / "faulty.log")
    try:
        with Client(base_url=own.url, api_key=own.api_key, model=MODEL) as client:
            handle = client.submit("hello")
            [failed] = wait_until(
                lambda: said(faulty, "a job failed in our code"), "the failure in the log", timeout_s=60
            )
            assert (failed["job"], failed["error"]) == (handle.id, "ValueError")
            assert failed["places"][-1].endswith(" broken")
    finally:
        faulty.stop()
    [ended] = [line for line in lines(faulty) if line["event"].startswith("Exception found while shutting down broker")]
    assert (ended["error"], ended["level"]) == ("ValueError", "warning")
    assert ended["places"][-1].endswith(" shutdown")
    assert SECRET not in faulty.text()
