"""Orders: flags below the control, the control below the prompt, and the queue of faults."""

from __future__ import annotations

import asyncio

import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI, InternalServerError, RateLimitError
from simulator_kit import Sim

from onceq_service.simulator import Knobs, serve


async def tokens(client: AsyncOpenAI, prompt: str = "hello", model: str = "gpt-4o-mini") -> int:
    answer = await client.chat.completions.create(model=model, messages=[{"role": "user", "content": prompt}])
    assert answer.usage is not None
    return answer.usage.completion_tokens


async def test_the_prompt_beats_the_control_which_beats_the_flags(openai: AsyncOpenAI, sim: Sim) -> None:
    assert await tokens(openai) == 20
    sim.control(defaults={"tokens": 7})
    assert await tokens(openai) == 7
    assert await tokens(openai, "[[sim tokens=3]]") == 3
    sim.reset()
    assert await tokens(openai) == 20


async def test_the_last_directive_in_the_conversation_counts(openai: AsyncOpenAI) -> None:
    answer = await openai.chat.completions.create(
        model="m",
        messages=[
            {"role": "user", "content": "[[sim tokens=3]]"},
            {"role": "user", "content": [{"type": "text", "text": "now [[sim tokens=4 seed=7]]"}]},
        ],
    )
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 4


async def test_a_fault_with_times_strikes_the_first_calls_of_a_prompt_only(openai: AsyncOpenAI) -> None:
    prompt = "once [[sim fault=429 times=2 retry_after=0]]"
    for _ in range(2):
        with pytest.raises(RateLimitError):
            await tokens(openai, prompt)
    assert await tokens(openai, prompt) == 20
    with pytest.raises(RateLimitError):
        await tokens(openai, "another " + prompt)


async def test_a_queued_fault_strikes_the_next_calls_that_fit(openai: AsyncOpenAI, sim: Sim) -> None:
    sim.control(faults=[{"fault": "500", "times": 2, "model": "gpt-"}, {"fault": "429"}])
    with pytest.raises(RateLimitError):
        await tokens(openai, model="llama")
    for _ in range(2):
        with pytest.raises(InternalServerError):
            await tokens(openai)
    assert await tokens(openai) == 20


async def test_a_queued_fault_waits_for_its_provider(openai: AsyncOpenAI, anthropic: AsyncAnthropic, sim: Sim) -> None:
    sim.control(faults=[{"fault": "529", "provider": "anthropic"}])
    assert await tokens(openai) == 20
    with pytest.raises(Exception, match="Overloaded"):
        await anthropic.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "hello"}])


async def test_a_prompt_can_decline_a_default_fault(openai: AsyncOpenAI, sim: Sim) -> None:
    sim.control(defaults={"fault": "500"})
    with pytest.raises(InternalServerError):
        await tokens(openai)
    assert await tokens(openai, "[[sim fault=none]]") == 20


async def test_more_requests_than_the_limit_are_429(openai: AsyncOpenAI, sim: Sim) -> None:
    sim.control(defaults={"rpm": 1})
    with pytest.raises(RateLimitError) as limited:
        # Three, because a minute may end between the first two.
        await asyncio.gather(tokens(openai), tokens(openai), tokens(openai))
    assert float(limited.value.response.headers["retry-after"]) <= 60


async def test_more_tokens_than_the_limit_are_429(openai: AsyncOpenAI, sim: Sim) -> None:
    sim.control(defaults={"tpm": 15})
    with pytest.raises(RateLimitError, match="tokens"):
        await asyncio.gather(tokens(openai), tokens(openai), tokens(openai))


async def test_the_stop_reason_can_be_set(openai: AsyncOpenAI) -> None:
    answer = await openai.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "[[sim stop=content_filter]]"}]
    )
    assert answer.choices[0].finish_reason == "content_filter"


@pytest.mark.parametrize(
    "orders",
    [
        {"defaults": {"tokens": -1}},
        {"defaults": {"speed": 1}},
        {"defaults": {"fault": "flood"}},
        {"faults": [{"fault": "flood"}]},
        {"faults": {}},
        {"wishes": 1},
    ],
)
def test_orders_that_make_no_sense_change_nothing(sim: Sim, orders: dict[str, object]) -> None:
    before = sim.http.get("/control").json()
    answer = sim.http.put("/control", json=orders)
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert sim.http.get("/control").json() == before


def test_the_control_shows_what_is_in_force(sim: Sim) -> None:
    sim.control(defaults={"tokens": 7}, faults=[{"fault": "cut", "times": 3}])
    shown = sim.http.get("/control").json()
    assert shown["defaults"]["tokens"] == 7
    assert shown["defaults"]["tps"] == 0
    assert shown["faults"] == [{"fault": "cut", "times": 3}]


async def test_a_simulator_can_be_embedded_with_settings_of_its_own() -> None:
    with serve(Knobs(tps=0, ttft_ms=0, tokens=3)) as simulator:
        async with AsyncOpenAI(base_url=f"{simulator.url}/openai/v1", api_key="k") as client:
            assert await tokens(client) == 3
