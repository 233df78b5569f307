"""Many jobs, few slots: rows R09, R10, R21, R24, R26, on real processes.

What is asserted is order and counts, never a time: these hold on a slow machine too.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from itertools import islice
from typing import Any

import httpx2
import pytest

from onceq import Client, JobHandle
from onceq.wire import Job
from onceq_service.embedded.redis_server import EmbeddedRedis
from tests.stack import Stack, running_stack
from tests.waiting import wait_until

MODEL, LIMITED = "openai/gpt-4o-mini", "openai/limited"
SLOTS, PER_MINUTE = 8, 20


@pytest.fixture(scope="module")
def one(redis_server: EmbeddedRedis) -> Generator[Stack]:
    """One worker process with 8 slots, and a lane of 20 jobs a minute."""
    lanes = json.dumps({LIMITED: {"requests_per_minute": PER_MINUTE}})
    with running_stack(redis_server, workers=1, worker_concurrency=str(SLOTS), lanes=lanes) as stack:
        yield stack


@pytest.fixture
def client(one: Stack) -> Generator[Client]:
    with Client(base_url=one.url, api_key=one.api_key, model=MODEL) as client:
        yield client


def calls(stack: Stack) -> list[dict[str, Any]]:
    """Every call on the simulator's meter."""
    return httpx2.get(f"{stack.simulator}/meter", timeout=30).json()["calls"]


def submit(client: Client, prompts: list[str], **options: Any) -> list[JobHandle]:
    handles = [one for one in client.submit_batch(prompts, **options) if isinstance(one, JobHandle)]
    assert len(handles) == len(prompts)
    return handles


def test_r09_a_worker_with_8_slots_has_8_calls_in_flight_and_never_more(client: Client, one: Stack) -> None:
    handles = submit(client, [f"In flight {n}. [[sim tokens=30 tps=60 ttft_ms=10]]" for n in range(40)])
    most, end = 0, time.monotonic() + 60
    while client.get(handles[-1].id).status != "succeeded" and time.monotonic() < end:
        most = max(most, sum(call["status"] == "running" for call in calls(one)))
    assert most == SLOTS
    for handle in handles:
        handle.result(30)
    mine = [call for call in calls(one) if call["job"] in {handle.id for handle in handles}]
    assert len(mine) == 40
    assert most_at_once(mine) == SLOTS, "on the meter's own clock, too"


def most_at_once(rows: list[dict[str, Any]]) -> int:
    """How many of these calls were open at one moment."""
    steps = sorted([(row["started_at"], 1) for row in rows] + [(row["ended_at"], -1) for row in rows])
    now, most = 0, 0
    for _, step in steps:
        now += step
        most = max(most, now)
    return most


def test_r21_interactive_jobs_pass_ten_thousand_batch_jobs(client: Client) -> None:
    """Between an interactive job's post and its start no more other jobs start than slots were taken, and the floor."""
    waiting = [f"Batch {n}. [[sim tokens=6 tps=60 ttft_ms=10]]" for n in range(10_000)]
    for begin in range(0, len(waiting), 1_000):
        submit(client, waiting[begin : begin + 1_000], band="batch")
    quick: list[Job] = []
    for n in range(20):
        prompt = f"Interactive {n}. [[sim tokens=3 tps=0 ttft_ms=10]]"
        quick.append(client.submit(prompt, band="interactive").result(60))
    client.pause(band="batch")
    started = [job.started_at for job in islice(client.list(status="succeeded", page_size=200), 3_000)]
    for job in quick:
        assert job.started_at is not None
        ahead = sum(at is not None and job.created_at < at < job.started_at for at in started)
        assert ahead <= SLOTS, f"{ahead} jobs started before one that was more urgent"
    assert client.stats().depth.queued > 5_000, "the batch was waiting all the while, and stays paused"


def test_r10_four_workers_start_no_more_jobs_of_a_lane_in_a_minute_than_it_may(client: Client, one: Stack) -> None:
    for _ in range(3):
        one.start_worker()
    wait_until(lambda: client.stats().fleet.processes == 4, "four workers")
    handles = submit(
        client, [f"Limited {n}. [[sim tokens=3 tps=0 ttft_ms=0]]" for n in range(PER_MINUTE + 10)], model=LIMITED
    )

    def lane_is_full() -> bool:
        waiting = [job.waiting for handle in handles if (job := client.get(handle.id)).status == "queued"]
        return len(waiting) == 10 and any(why and why.reason == "lane_full" for why in waiting)

    wait_until(lane_is_full, f"{PER_MINUTE} of {len(handles)} jobs to have started")
    # a job runs before its request is at the provider: whoever has an answer was there
    for handle in handles:
        if client.get(handle.id).status != "queued":
            handle.result(30)
    mine = {handle.id for handle in handles}
    assert sum(call["job"] in mine for call in calls(one)) == PER_MINUTE
    for handle in handles:
        handle.cancel()


def test_r24_more_workers_take_part_as_soon_as_they_are_there(client: Client, one: Stack) -> None:
    wait_until(lambda: client.stats().fleet.processes == 4, "the four workers of the test before")
    handles = submit(client, [f"Shared {n}. [[sim tokens=120 tps=60 ttft_ms=10]]" for n in range(80)])
    for handle in handles:
        assert handle.result(60).calls == 1
    mine = [call for call in calls(one) if call["job"] in {handle.id for handle in handles}]
    assert 3 * SLOTS < most_at_once(mine) <= 4 * SLOTS


def test_r26_a_storm_of_refusals_costs_no_call(client: Client, one: Stack) -> None:
    """Each job is turned away once or more before it is answered: the bill is one call a job."""
    faults = ("429 retry_after=0.2 times=3", "503 times=1", "500 times=1")
    prompts = [f"Storm {n}. [[sim fault={faults[n % 3]} tokens=4 tps=0 ttft_ms=0]]" for n in range(30)]
    handles = submit(client, prompts, model="openai/storm")
    for handle in handles:
        assert handle.result(120).calls == 1
    mine = {handle.id for handle in handles}
    assert sum(call["billed"] for call in calls(one) if call["job"] in mine) == len(handles)
