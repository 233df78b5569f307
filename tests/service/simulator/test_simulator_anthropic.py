"""Anthropic messages through the official SDK."""

from __future__ import annotations

import pytest
from anthropic import AsyncAnthropic, BadRequestError
from anthropic.types import Message, MessageParam, RawMessageStreamEvent
from simulator_kit import Sim

MODEL = "claude-haiku-4-5"


async def events(client: AsyncAnthropic, prompt: str, max_tokens: int = 1000) -> list[RawMessageStreamEvent]:
    stream = await client.messages.create(
        model=MODEL, max_tokens=max_tokens, messages=[{"role": "user", "content": prompt}], stream=True
    )
    return [event async for event in stream]


async def folded(client: AsyncAnthropic, prompt: str) -> Message:
    messages: list[MessageParam] = [{"role": "user", "content": prompt}]
    async with client.messages.stream(model=MODEL, max_tokens=1000, messages=messages) as stream:
        return await stream.get_final_message()


def text_of(message: Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


async def test_a_stream_opens_and_closes_its_message_and_its_blocks(anthropic: AsyncAnthropic) -> None:
    seen = [event.type for event in await events(anthropic, "hello [[sim tokens=2]]")]
    assert seen == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


def test_a_ping_is_sent_which_the_sdk_hides(sim: Sim) -> None:
    body = {"model": MODEL, "max_tokens": 9, "stream": True, "messages": [{"role": "user", "content": "hello"}]}
    headers = {"x-api-key": "k", "anthropic-version": "2023-06-01"}
    answer = sim.http.post("/anthropic/v1/messages", json=body, headers=headers)
    assert 'event: ping\ndata: {"type":"ping"}\n\n' in answer.text


async def test_the_input_side_of_usage_comes_with_the_start_and_the_rest_at_the_end(anthropic: AsyncAnthropic) -> None:
    seen = await events(anthropic, "hello there, friend [[sim tokens=9 cached=3 cache_write=2]]")
    start, end = seen[0], seen[-2]
    assert start.type == "message_start"
    assert end.type == "message_delta"
    usage = start.message.usage
    assert (usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (3, 2)
    assert usage.input_tokens > 0
    assert end.usage.output_tokens == 9
    assert end.usage.input_tokens == usage.input_tokens
    assert end.delta.stop_reason == "end_turn"


async def test_the_same_request_gets_the_same_text_streamed_or_whole(anthropic: AsyncAnthropic) -> None:
    whole = await anthropic.messages.create(
        model=MODEL, max_tokens=1000, messages=[{"role": "user", "content": "hello"}]
    )
    streamed = await folded(anthropic, "hello")
    assert text_of(streamed) == text_of(whole)
    assert streamed.usage.output_tokens == whole.usage.output_tokens == 20


async def test_thinking_comes_before_the_text_and_is_signed(anthropic: AsyncAnthropic) -> None:
    message = await folded(anthropic, "think [[sim reasoning=5]]")
    thinking, text = message.content
    assert thinking.type == "thinking"
    assert thinking.thinking
    assert thinking.signature
    assert text.type == "text"
    assert message.usage.output_tokens == 25


async def test_thinking_is_given_when_the_request_enables_it(anthropic: AsyncAnthropic) -> None:
    message = await anthropic.messages.create(
        model=MODEL,
        max_tokens=2000,
        thinking={"type": "enabled", "budget_tokens": 1024},
        messages=[{"role": "user", "content": "think"}],
    )
    assert message.content[0].type == "thinking"


async def test_tool_use_streams_its_input_as_partial_json(anthropic: AsyncAnthropic) -> None:
    async with anthropic.messages.stream(
        model=MODEL,
        max_tokens=1000,
        messages=[{"role": "user", "content": "weather?"}],
        tools=[{"name": "get_weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}],
        tool_choice={"type": "any"},
    ) as stream:
        message = await stream.get_final_message()
    (tool,) = message.content
    assert tool.type == "tool_use"
    assert isinstance(tool.input["city"], str)
    assert tool.id.startswith("toolu_")
    assert message.stop_reason == "tool_use"


async def test_json_output_fits_its_schema(anthropic: AsyncAnthropic) -> None:
    schema: dict[str, object] = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    message = await anthropic.messages.create(
        model=MODEL,
        max_tokens=1000,
        messages=[{"role": "user", "content": "is it?"}],
        output_config={"format": {"type": "json_schema", "schema": schema}},
    )
    (text,) = message.content
    assert text.type == "text"
    assert text.text in ('{"ok":true}', '{"ok":false}')


async def test_max_tokens_is_a_stop_reason(anthropic: AsyncAnthropic) -> None:
    end = (await events(anthropic, "hello", max_tokens=4))[-2]
    assert end.type == "message_delta"
    assert end.delta.stop_reason == "max_tokens"
    assert end.usage.output_tokens == 4


async def test_a_refusal_is_a_stop_reason(anthropic: AsyncAnthropic) -> None:
    assert (await folded(anthropic, "[[sim fault=refusal]]")).stop_reason == "refusal"
    assert (await folded(anthropic, "[[sim fault=filter]]")).stop_reason == "refusal"


async def test_headers_tell_request_id_and_rate_limits(anthropic: AsyncAnthropic) -> None:
    raw = await anthropic.messages.with_raw_response.create(
        model="claude-limited", max_tokens=10, messages=[{"role": "user", "content": "hello [[sim rpm=9 tpm=1000]]"}]
    )
    assert raw.headers["request-id"].startswith("req_")
    assert raw.headers["anthropic-ratelimit-requests-remaining"] == "8"
    usage = (await raw.parse()).usage
    for axis, used in (("input", usage.input_tokens), ("output", usage.output_tokens)):
        assert raw.headers[f"anthropic-ratelimit-{axis}-tokens-limit"] == "1000"
        assert int(raw.headers[f"anthropic-ratelimit-{axis}-tokens-remaining"]) == 1000 - used


async def test_what_the_real_host_requires_is_required(anthropic: AsyncAnthropic, sim: Sim) -> None:
    url = "/anthropic/v1/messages"
    assert sim.http.post(url, json={}).status_code == 401
    assert sim.http.post(url, json={}, headers={"x-api-key": "k"}).status_code == 400
    with pytest.raises(BadRequestError, match="at least one message"):
        await anthropic.messages.create(model=MODEL, max_tokens=10, messages=[])


async def test_system_prompt_images_and_tool_results_are_accepted(anthropic: AsyncAnthropic, sim: Sim) -> None:
    await anthropic.messages.create(
        model=MODEL,
        max_tokens=10,
        system=[{"type": "text", "text": "a" * 40}],
        messages=[
            {
                "role": "user",
                "content": [{"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}],
            },
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "n", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "b" * 40}]},
        ],
    )
    assert sim.row()["input_tokens"] == 20
