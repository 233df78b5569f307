"""Who starts next, and what a lane's tokens let start: rows W5, W14, through HTTP with one slot of one worker.

What is asserted is order and counts, never a time.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable

import pytest

from onceq import Client, JobHandle
from onceq.wire import Job
from onceq_service.embedded.redis_server import EmbeddedRedis
from tests.stack import Stack, running_stack
from tests.waiting import wait_until

MODEL, METERED = "openai/gpt-4o-mini", "openai/metered"
OUTPUT_PER_MINUTE = 1_000


@pytest.fixture(scope="module")
def one_slot(redis_server: EmbeddedRedis) -> Generator[Stack]:
    """A tenant that weighs three times the others, and a lane of a thousand tokens a minute."""
    lanes = json.dumps({METERED: {"output_tokens_per_minute": OUTPUT_PER_MINUTE}})
    tenants = json.dumps({"heavy": {"weight": 3}})
    with running_stack(redis_server, workers=1, worker_concurrency="1", lanes=lanes, tenants=tenants) as stack:
        yield stack


@pytest.fixture
def heavy(one_slot: Stack) -> Generator[Client]:
    with Client(base_url=one_slot.url, api_key=one_slot.key("heavy"), model=MODEL) as client:
        yield client


@pytest.fixture
def light(one_slot: Stack) -> Generator[Client]:
    with Client(base_url=one_slot.url, api_key=one_slot.key("light"), model=MODEL) as client:
        yield client


def posted(client: Client, count: int, **options: str) -> list[JobHandle]:
    """So many short jobs of one batch."""
    prompts = [f"Turn {n}. [[sim tokens=2 tps=0 ttft_ms=0]]" for n in range(count)]
    return [one for one in client.submit_batch(prompts, **options) if isinstance(one, JobHandle)]  # pyright: ignore[reportArgumentType]


def in_order(handles: Iterable[JobHandle]) -> list[Job]:
    """The jobs at their ends, by their starts; one slot runs one at a time, so no two starts are alike for long."""
    jobs = [handle.wait() for handle in handles]
    return sorted(jobs, key=lambda job: job.started_at or job.created_at)


def test_w14_tenants_start_jobs_in_proportion_to_their_weights(heavy: Client, light: Client) -> None:
    heavy.pause(lane=MODEL)
    mine, others = posted(heavy, 24), posted(light, 24)
    heavy.resume(lane=MODEL)
    first = [job.id for job in in_order([*mine, *others])][:24]
    assert sum(handle.id in first for handle in mine) == pytest.approx(18, abs=1)


def test_w14_a_batch_job_starts_though_interactive_ones_always_wait(heavy: Client) -> None:
    heavy.pause(lane=MODEL)
    interactive, batch = posted(heavy, 60, band="interactive"), posted(heavy, 1, band="batch")
    heavy.resume(lane=MODEL)
    order = [job.id for job in in_order([*interactive, *batch])]
    assert 0 < order.index(batch[0].id) < 40


def test_w5_a_lanes_tokens_are_set_aside_by_what_a_job_may_use_and_given_back_by_what_it_used(heavy: Client) -> None:
    def ask(n: int) -> JobHandle:
        return heavy.submit(f"Tokens {n}. [[sim tokens=10 tps=0 ttft_ms=0]]", model=METERED, max_tokens=400)

    heavy.pause(lane=METERED)
    handles = [ask(n) for n in range(6)]
    heavy.resume(lane=METERED)
    assert {job.status for job in in_order(handles)} == {"succeeded"}, "ten tokens each are far from a thousand"
    lane = next(lane for lane in heavy.lanes().lanes if lane.lane == METERED)
    assert lane.output_tokens_last_minute == 60

    big = heavy.submit("[[sim tokens=900 tps=0 ttft_ms=0]]", model=METERED, max_tokens=900)
    assert big.wait().status == "succeeded"
    late = ask(7)
    wait_until(
        lambda: (why := heavy.get(late.id).waiting) and why.reason == "lane_full", "the lane to have no tokens left"
    )
    late.cancel()
