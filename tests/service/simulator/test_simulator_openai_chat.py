"""OpenAI chat completions through the official SDK."""

from __future__ import annotations

import json

import pytest
from openai import AsyncOpenAI, AuthenticationError, BadRequestError
from openai.types.chat import ChatCompletionChunk, ChatCompletionToolParam
from simulator_kit import Sim

WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 5}},
            "required": ["city", "days"],
        },
    },
}


async def stream(client: AsyncOpenAI, prompt: str, model: str = "gpt-4o-mini") -> list[ChatCompletionChunk]:
    chunks = await client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": prompt}],
        stream=True,
        stream_options={"include_usage": True},
    )
    return [chunk async for chunk in chunks]


def text_of(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


async def test_a_stream_has_a_role_then_text_then_a_finish_reason_then_usage(openai: AsyncOpenAI) -> None:
    chunks = await stream(openai, "hello")
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len([c for c in chunks if c.choices and c.choices[0].delta.content]) == 20
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == 1


async def test_usage_comes_only_when_asked_for(openai: AsyncOpenAI) -> None:
    stream = await openai.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": "hello"}], stream=True
    )
    chunks = [chunk async for chunk in stream]
    assert len(chunks) == 22
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)


async def test_the_same_request_gets_the_same_text_streamed_or_whole(openai: AsyncOpenAI) -> None:
    first, second = text_of(await stream(openai, "hello")), text_of(await stream(openai, "hello"))
    whole = await openai.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "hello"}])
    assert first == second == whole.choices[0].message.content
    assert text_of(await stream(openai, "another prompt")) != first


async def test_usage_details_report_cached_and_reasoning_tokens(openai: AsyncOpenAI) -> None:
    usage = (await stream(openai, "hello there [[sim tokens=9 reasoning=4 cached=3]]"))[-1].usage
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert usage.completion_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == 3
    assert usage.completion_tokens_details.reasoning_tokens == 4
    assert usage.completion_tokens == 13
    assert usage.total_tokens == usage.prompt_tokens + 13


async def test_reasoning_comes_first_in_the_field_that_compatible_servers_use(openai: AsyncOpenAI) -> None:
    chunks = await stream(openai, "think [[sim reasoning=6 tokens=2]]")
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    thoughts = [getattr(delta, "reasoning_content", None) for delta in deltas]
    assert len([thought for thought in thoughts if thought]) == 6
    assert all(thoughts[1:7])


async def test_a_forced_tool_call_streams_its_arguments_by_index(openai: AsyncOpenAI) -> None:
    chunks = await openai.chat.completions.create(
        model="gpt-4o-mini",
        messages=[{"role": "user", "content": "weather?"}],
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
        stream=True,
    )
    deltas = [choice.delta async for chunk in chunks for choice in chunk.choices]
    calls = [call for delta in deltas for call in delta.tool_calls or ()]
    assert calls[0].id is not None
    assert calls[0].function is not None
    assert calls[0].function.name == "get_weather"
    assert {call.index for call in calls} == {0}
    arguments = json.loads("".join(call.function.arguments or "" for call in calls if call.function))
    assert isinstance(arguments["city"], str)
    assert 1 <= arguments["days"] <= 5


async def test_two_tool_calls_have_two_indexes_and_their_own_arguments(openai: AsyncOpenAI) -> None:
    chunks = await stream(openai, '[[sim tool=one,two args={"n":1}]]')
    calls = [call for c in chunks for choice in c.choices for call in choice.delta.tool_calls or ()]
    assert {call.index for call in calls} == {0, 1}
    assert [call.function.name for call in calls if call.function and call.function.name] == ["one", "two"]
    assert chunks[-2].choices[0].finish_reason == "tool_calls"
    whole = await openai.chat.completions.create(
        model="m", messages=[{"role": "user", "content": '[[sim tool=one args={"n":1}]]'}]
    )
    assert whole.choices[0].message.tool_calls is not None
    assert whole.choices[0].message.tool_calls[0].to_dict()["function"] == {"name": "one", "arguments": '{"n":1}'}


async def test_json_output_fits_its_schema(openai: AsyncOpenAI) -> None:
    answer = await openai.chat.completions.create(
        model="gpt-4o",
        messages=[{"role": "user", "content": "a person"}],
        response_format={
            "type": "json_schema",
            "json_schema": {
                "name": "person",
                "schema": {
                    "type": "object",
                    "properties": {"name": {"type": "string"}, "mood": {"enum": ["calm", "glad"]}},
                    "required": ["name", "mood"],
                },
            },
        },
    )
    person = json.loads(answer.choices[0].message.content or "")
    assert set(person) == {"name", "mood"}
    assert person["mood"] in ("calm", "glad")


async def test_json_mode_without_a_schema_is_an_object(openai: AsyncOpenAI) -> None:
    answer = await openai.chat.completions.create(
        model="gpt-4o",
        messages=[{"role": "user", "content": "some json"}],
        response_format={"type": "json_object"},
    )
    assert isinstance(json.loads(answer.choices[0].message.content or ""), dict)


async def test_max_tokens_ends_the_answer_with_length(openai: AsyncOpenAI) -> None:
    full = text_of(await stream(openai, "hello"))
    answer = await openai.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": "hello"}], max_completion_tokens=7
    )
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 7
    assert full.startswith(answer.choices[0].message.content or "?")


async def test_a_refusal_arrives_in_its_own_field(openai: AsyncOpenAI) -> None:
    chunks = await stream(openai, "[[sim fault=refusal]]")
    refusal = "".join(choice.delta.refusal or "" for chunk in chunks for choice in chunk.choices)
    assert refusal.startswith("I'm sorry")
    assert text_of(chunks) == ""


async def test_the_content_filter_is_a_finish_reason(openai: AsyncOpenAI) -> None:
    assert (await stream(openai, "[[sim fault=filter]]"))[-2].choices[0].finish_reason == "content_filter"


async def test_headers_tell_request_id_and_rate_limits_before_the_first_chunk(openai: AsyncOpenAI) -> None:
    raw = await openai.chat.completions.with_raw_response.create(
        model="gpt-limited", messages=[{"role": "user", "content": "hello [[sim rpm=9 tpm=1000]]"}]
    )
    assert raw.headers["x-request-id"].startswith("req_")
    assert raw.headers["x-ratelimit-limit-requests"] == "9"
    assert raw.headers["x-ratelimit-remaining-requests"] == "8"
    usage = raw.parse().usage
    assert usage is not None
    assert int(raw.headers["x-ratelimit-remaining-tokens"]) == 1000 - usage.total_tokens
    assert 0 < float(raw.headers["x-ratelimit-reset-tokens"].removesuffix("s")) <= 60
    assert "openai-processing-ms" in raw.headers


async def test_a_host_without_limits_tells_of_none(openai: AsyncOpenAI) -> None:
    raw = await openai.chat.completions.with_raw_response.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": "hello"}]
    )
    assert not [name for name in raw.headers if "ratelimit" in name]


async def test_models_are_listed_and_any_other_is_served(openai: AsyncOpenAI) -> None:
    assert [model.id async for model in await openai.models.list()]
    assert text_of(await stream(openai, "hello", model="llama-of-nobody"))


async def test_no_key_is_401_and_no_messages_is_400(openai: AsyncOpenAI, sim: Sim) -> None:
    answer = sim.http.post("/openai/v1/chat/completions", json={"model": "m", "messages": []})
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"
    with pytest.raises(BadRequestError, match="empty array"):
        await openai.chat.completions.create(model="m", messages=[])
    with pytest.raises(AuthenticationError):
        await stream(openai, "[[sim fault=401]]")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"model": 1}', b"[" * 100_000, b"\xff"])
def test_a_body_that_is_no_request_is_400(sim: Sim, body: bytes) -> None:
    headers = {"authorization": "Bearer k"}
    answer = sim.http.post("/openai/v1/chat/completions", content=body, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
