"""A worker that has to go while Redis is away: it goes, and nothing is lost that Redis had."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Generator

import pytest

from onceq import Client
from onceq_service.embedded.redis_server import EmbeddedRedis
from tests.stack import Stack, running_stack
from tests.waiting import wait_until

ENDLESS = "[[sim tokens=4000 tps=40 ttft_ms=10]]"
QUICK = "[[sim tokens=20 tps=40 ttft_ms=10]]"


@pytest.fixture
def own(own_redis: EmbeddedRedis) -> Generator[Stack]:
    """One worker process that may drain for a second."""
    with running_stack(own_redis, workers=1, drain_s="1", lease_s="2") as stack:
        yield stack


def calls(stack: Stack, job_id: str) -> list[str]:
    return [row["status"] for row in stack.meter(job_id)]


def stop_redis(redis: EmbeddedRedis, how: signal.Signals) -> int:
    assert redis.pid is not None
    pid = redis.pid
    os.kill(pid, how)
    if how is signal.SIGKILL:
        wait_until(redis.gone, "Redis to be gone")
    return pid


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["gone", "silent"])
def test_a_worker_that_has_to_go_does_not_wait_for_a_redis_that_is_away(
    own: Stack, own_redis: EmbeddedRedis, how: signal.Signals
) -> None:
    with Client(base_url=own.url, api_key=own.api_key, model="openai/gpt-4o-mini") as client:
        handles = [client.submit(f"{n} {ENDLESS}") for n in range(3)]
        wait_until(lambda: all(calls(own, h.id) for h in handles), "the calls to begin")
        pid = stop_redis(own_redis, how)
        try:
            own.worker.popen.send_signal(signal.SIGTERM)
            assert own.worker.popen.wait(60) == 0
            assert len(re.findall("left to their leases.*jobs=3", own.worker.text())) == 1
            wait_until(lambda: all(calls(own, h.id) == ["aborted"] for h in handles), "the calls to be closed upstream")
        finally:
            if how is signal.SIGSTOP:
                os.kill(pid, signal.SIGCONT)
            else:
                own_redis.revive()
        own.start_worker()
        wait_until(lambda: all(len(calls(own, h.id)) == 2 for h in handles), "the leases to have done their work")
        for handle in handles:
            handle.cancel()


def test_without_a_drain_an_answer_waits_for_redis(own: Stack, own_redis: EmbeddedRedis) -> None:
    """It is paid for."""
    with Client(base_url=own.url, api_key=own.api_key, model="openai/gpt-4o-mini") as client:
        handle = client.submit(QUICK)
        wait_until(lambda: calls(own, handle.id), "the call to begin")
        stop_redis(own_redis, signal.SIGKILL)
        wait_until(lambda: calls(own, handle.id) == ["completed"], "the answer to be whole")
        own_redis.revive()
        assert handle.wait(60).status == "succeeded"
        assert calls(own, handle.id) == ["completed"]
