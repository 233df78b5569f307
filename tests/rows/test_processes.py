"""Processes come and go, connections are cut: rows R07, R08, R28, R20 of the requirements, on real processes."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Generator

import pytest

from onceq import AsyncClient, Client
from onceq_service.embedded.redis_server import EmbeddedRedis
from onceq_service.settings import Settings
from tests.rows.proxy import idle_proxy
from tests.stack import Stack, running_stack
from tests.waiting import until, wait_until

MODEL = "openai/gpt-4o-mini"


@pytest.fixture(scope="module")
def own(redis_server: EmbeddedRedis) -> Generator[Stack]:
    """A stack of one's own to break; keep-alives come often."""
    with running_stack(redis_server, keep_alive_s="0.2", lease_s="6", drain_s="20") as stack:
        yield stack


def test_r28_a_slow_answer_survives_a_proxy_that_cuts_idle_connections(own: Stack) -> None:
    with idle_proxy(own.url, idle_s=4) as proxy, Client(base_url=proxy.url, api_key=own.api_key) as client:
        stream = client.stream("Slow. [[sim ttft_ms=6000 tokens=10 tps=100]]", model=MODEL)
        assert "".join(stream) == own.meter(stream.job_id or "")[0]["text"]
        assert proxy.cuts == 0, "keep-alive comments keep the connection moving"


def test_r28_keep_alives_come_several_times_before_a_proxy_of_sixty_seconds_cuts() -> None:
    assert 3 * Settings.model_fields["keep_alive_s"].default < 60


def test_r28_a_wait_through_such_a_proxy_ends_with_the_answer(own: Stack) -> None:
    with idle_proxy(own.url, idle_s=0.5) as proxy, Client(base_url=proxy.url, api_key=own.api_key) as client:
        job = client.submit("Wait. [[sim ttft_ms=1500 tokens=5 tps=0]]", model=MODEL).wait()
        assert job.status == "succeeded"
        assert len(own.meter(job.id)) == 1


def test_r07_the_worker_goes_on_without_the_api_and_the_api_without_the_worker(own: Stack) -> None:
    with Client(base_url=own.url, api_key=own.api_key) as client:
        handle = client.submit("Alone. [[sim tokens=60 tps=40 ttft_ms=10]]", model=MODEL)
        wait_until(lambda: own.meter(handle.id), "the call to begin")
    own.api.stop(signal.SIGKILL)
    wait_until(lambda: own.meter(handle.id)[0]["status"] == "completed", "the call to end without an API")
    own.restart_api()
    own.worker.stop()
    with Client(base_url=own.url, api_key=own.api_key) as client:
        assert client.get(handle.id).status == "succeeded"
        late = client.submit("Nobody works. [[sim tokens=5 tps=0 ttft_ms=0]]", model=MODEL)
        assert client.get(late.id).status == "queued"
        own.start_worker()
        assert late.wait().status == "succeeded"


async def test_r08_r20_every_process_is_restarted_in_mid_burst_and_no_job_is_lost_or_paid_twice(own: Stack) -> None:
    key = await asyncio.to_thread(lambda: own.api_key)
    async with AsyncClient(base_url=own.url, api_key=key) as client:
        handles = [
            await client.submit(f"Burst {n}. [[sim tokens=30 tps=30 ttft_ms=50]]", model=MODEL) for n in range(80)
        ]
    await asyncio.to_thread(own.start_worker().stop, signal.SIGTERM)
    await asyncio.to_thread(own.restart_api)
    async with AsyncClient(base_url=own.url, api_key=key) as client:

        async def all_ended() -> bool:
            depth = (await client.stats()).depth
            return depth.queued == 0 and depth.running == 0

        await until(all_ended, "80 jobs to end", timeout_s=60)
        jobs = [await client.get(handle.id) for handle in handles]
    assert {job.status for job in jobs} == {"succeeded"}
    assert [len(own.meter(job.id)) for job in jobs] == [1] * 80
