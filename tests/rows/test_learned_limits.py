"""Limits that nobody configured: the providers' own, as their answers tell them."""

from __future__ import annotations

import time
from collections.abc import Generator

import httpx2
import pytest

from onceq import Client
from onceq.wire import LaneInfo
from onceq_service.embedded.redis_server import EmbeddedRedis
from tests.stack import Stack, running_stack
from tests.waiting import wait_until

MINUTE_S = 60


@pytest.fixture(scope="module")
def own(redis_server: EmbeddedRedis) -> Generator[Stack]:
    with running_stack(redis_server, workers=2) as stack:
        yield stack


@pytest.fixture
def client(own: Stack) -> Generator[Client]:
    with Client(base_url=own.url, api_key=own.api_key) as client:
        yield client


@pytest.fixture(autouse=True)
def room_in_the_minute() -> None:
    """The simulator counts by the clock's minute: a test must not begin in one and end in the next."""
    wait_until(lambda: time.time() % MINUTE_S < MINUTE_S / 2, "a new minute", timeout_s=MINUTE_S)


def lane_of(client: Client, model: str) -> LaneInfo | None:
    return next((lane for lane in client.lanes().lanes if lane.lane == model), None)


@pytest.mark.parametrize("model", ["openai/learned-1", "anthropic/learned-1"])
def test_a_burst_keeps_to_the_limit_that_the_first_answer_told(client: Client, own: Stack, model: str) -> None:
    client.submit("First. [[sim rpm=4 tokens=2 tps=0 ttft_ms=0]]", model=model).result(30)
    lane = wait_until(lambda: lane_of(client, model), "the lane")
    assert lane.limits == {}
    wait_until(lambda: (lane_of(client, model) or lane).learned_limits, "the limits to be learned")
    handles = [client.submit(f"Then {n}. [[sim rpm=4 tokens=2 tps=0 ttft_ms=0]]", model=model) for n in range(8)]

    def begun() -> bool:
        return sum(len(requests(own, handle.id)) for handle in handles) >= 3

    wait_until(begun, "the rest of the minute's requests")
    held = wait_until(lambda: braked(client, model) or full(client, model), "the lane to be held back")
    assert held
    statuses = [row["http_status"] for handle in handles for row in requests(own, handle.id)]
    assert statuses == [200] * len(statuses), "no 429 was earned"
    for handle in handles:
        handle.cancel()


@pytest.mark.parametrize(("model", "path", "headers"), [
    ("openai/shared", "/openai/v1/chat/completions", {"authorization": "Bearer x"}),
    ("anthropic/shared", "/anthropic/v1/messages", {"x-api-key": "x", "anthropic-version": "2023-06-01"}),
])  # fmt: skip
def test_an_account_that_others_use_up_holds_the_lane_back_before_a_429(
    client: Client, own: Stack, model: str, path: str, headers: dict[str, str]
) -> None:
    prompt = "Ours. [[sim rpm=20 tokens=2 tps=0 ttft_ms=0]]"
    body = {"model": "shared", "max_tokens": 5, "messages": [{"role": "user", "content": prompt}]}
    with httpx2.Client(base_url=own.simulator, headers=headers) as other:
        for _ in range(19):
            assert other.post(path, json=body).status_code == 200
    client.submit(prompt, model=model, fresh=True).result(30)
    lane = wait_until(lambda: braked(client, model), "the lane to be held back")
    assert lane.braked_until is not None
    assert lane.brake_reason == "provider_rate_limited"
    waiting = client.submit(prompt, model=model, fresh=True)
    other_lane = client.submit("Elsewhere. [[sim tokens=2]]", model=f"{model}-not", fresh=True)
    assert other_lane.result(30).status == "succeeded"
    assert waiting.refresh().status == "queued"
    assert requests(own, waiting.id) == []
    waiting.cancel()


def braked(client: Client, model: str) -> LaneInfo | None:
    lane = lane_of(client, model)
    return lane if lane is not None and lane.braked_until is not None else None


def full(client: Client, model: str) -> LaneInfo | None:
    lane = lane_of(client, model)
    limit = lane.learned_limits.get("requests_per_minute") if lane else None
    return lane if lane is not None and limit is not None and (lane.requests_last_minute or 0) >= limit else None


def requests(own: Stack, job_id: str) -> list[dict[str, object]]:
    """What the simulator was asked for a job, the refused too."""
    query = {"job": job_id, "refused": "1"}
    return httpx2.get(f"{own.simulator}/meter", params=query).json()["calls"]
