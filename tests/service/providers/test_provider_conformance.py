"""What all three providers do alike, against the simulator and through their own SDKs."""

from __future__ import annotations

import asyncio
import gc
import json
from typing import Any

import httpx2

from onceq_service import pricing
from onceq_service.providers import Provider
from onceq_service.providers.base import Delta
from onceq_service.settings import ProviderKind
from tests.service.providers.kit import MODELS, Meter, hear, sim, spec_for

WEATHER = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


async def test_the_text_is_what_the_provider_sent(provider: Provider, kind: ProviderKind, meter: Meter) -> None:
    spec = spec_for(kind, sim(tokens=200))
    heard = await hear(provider, spec)
    row = await meter.row(spec)
    assert heard.error is None
    assert heard.said() == row["text"]
    assert heard.finish_reason == "stop"
    assert row["status"] == "completed"


async def test_the_provider_gets_the_id_of_job_and_call(provider: Provider, kind: ProviderKind, meter: Meter) -> None:
    spec = spec_for(kind, sim(tokens=1))
    await hear(provider, spec)
    row = await meter.row(spec)
    assert f"{row['job']}/{row['call']}" == spec.client_request_id


async def test_no_batch_is_empty(provider: Provider, kind: ProviderKind) -> None:
    """Not even of the opening events, which come before any text."""
    heard = await hear(provider, spec_for(kind, sim(tokens=30, tps=500, fault="slow", slow_ms=100)))
    assert heard.finish_reason == "stop"
    assert all(heard.batches)


async def test_an_answer_comes_in_many_batches(provider: Provider, kind: ProviderKind) -> None:
    """Of an answer that would take minutes: even a client that is seconds late has not had all of it at once."""
    had: list[list[Delta]] = []
    async with provider.call(spec_for(kind, sim(tokens=100_000, tps=500))) as stream:
        async for batch in stream:
            had.append(batch)
            if len(had) == 3:
                break
    assert len(had) == 3
    assert all(had)


async def test_tokens_arrive_while_the_provider_still_generates(provider: Provider, kind: ProviderKind) -> None:
    async with provider.call(spec_for(kind, sim(tokens=1000, tps=50))) as stream:
        async with asyncio.timeout(5):
            first = await anext(aiter(stream))
        assert first[0].kind == "text"
        assert stream.finish_reason is None


async def test_while_an_answer_comes_nothing_holds_the_request_that_was_sent(
    provider: Provider, kind: ProviderKind
) -> None:
    """Its body is the prompt, and a worker waits for thousands of answers. Bedrock's is botocore's: not looked for."""
    spec = spec_for(kind, sim(tokens=1000, tps=50))

    def held() -> int:
        gc.collect()
        sent = [one.headers for one in gc.get_objects() if isinstance(one, httpx2.Request)]
        return sum(headers.get("x-client-request-id") == spec.client_request_id for headers in sent)

    async with provider.call(spec) as stream:
        await anext(aiter(stream))
        assert held() == 0


async def test_usage_and_price_equal_the_meter_to_the_nano_dollar(
    provider: Provider, kind: ProviderKind, meter: Meter
) -> None:
    for settings in ({"tokens": 57}, {"tokens": 31, "cached": 5}, {"tokens": 40, "reasoning": 9}):
        spec = spec_for(kind, sim(**settings))
        heard = await hear(provider, spec)
        row = await meter.row(spec)
        priced = pricing.price(provider, spec.model_id, heard.usage, context=heard.price_context)
        assert priced is not None
        tokens = priced.tokens
        assert (tokens.input, tokens.output) == (row["input_tokens"], row["output_tokens"])
        assert tokens.cached == row["cached_tokens"]
        # Bedrock's usage has no count of its own for reasoning; it is inside the output's.
        assert tokens.reasoning == (0 if kind == "bedrock" else row["reasoning_tokens"])
        assert priced.nano_usd == row["nano_usd"] is not None


async def test_cache_writes_are_priced_as_the_meter_does(provider: Provider, kind: ProviderKind, meter: Meter) -> None:
    spec = spec_for(kind, sim(tokens=10, cached=3, cache_write=4))
    heard = await hear(provider, spec)
    row = await meter.row(spec)
    priced = pricing.price(provider, spec.model_id, heard.usage, context=heard.price_context)
    assert priced is not None
    assert priced.nano_usd == row["nano_usd"]


async def test_reasoning_is_told_apart_from_the_answer(provider: Provider, kind: ProviderKind, meter: Meter) -> None:
    spec = spec_for(kind, sim(tokens=12, reasoning=8))
    heard = await hear(provider, spec)
    row = await meter.row(spec)
    assert heard.said("text") == row["text"]
    assert heard.said("reasoning") == row["reasoning"] != ""


async def test_a_tool_call_arrives_in_pieces_of_one_call(provider: Provider, kind: ProviderKind) -> None:
    prompt = sim(tool="weather", args="""'{"city":"Oslo"}'""")
    heard = await hear(provider, spec_for(kind, prompt, tools=[WEATHER]))
    calls = [delta for delta in heard.deltas if delta.kind == "tool_call"]
    assert (calls[0].index, calls[0].name) == (0, "weather")
    assert calls[0].id
    assert json.loads(heard.said("tool_call")) == {"city": "Oslo"}
    assert heard.finish_reason == "tool_calls"


async def test_two_tool_calls_are_numbered_from_zero(provider: Provider, kind: ProviderKind) -> None:
    tools = [WEATHER, WEATHER | {"name": "clock"}]
    heard = await hear(provider, spec_for(kind, sim(tool="weather,clock"), tools=tools))
    named = {delta.index: delta.name for delta in heard.deltas if delta.kind == "tool_call" and delta.name}
    assert named == {0: "weather", 1: "clock"}
    for number in named:
        json.loads("".join(delta.text for delta in heard.deltas if delta.kind == "tool_call" and delta.index == number))


async def test_a_conversation_with_tool_results_is_understood(provider: Provider, kind: ProviderKind) -> None:
    call = {"id": "call_1", "name": "weather", "arguments": '{"city":"Oslo"}'}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "How is Oslo?"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "Snow."},
        {"role": "user", "content": [{"type": "text", "text": sim(tokens=5)}]},
    ]
    heard = await hear(provider, spec_for(kind, messages=messages, tools=[WEATHER], system="You are a weatherman."))
    assert heard.error is None
    assert heard.finish_reason == "stop"


async def test_every_setting_with_a_name_of_ours_is_taken(provider: Provider, kind: ProviderKind) -> None:
    settings: dict[str, Any] = {
        "temperature": 0.3,
        "stop": ["END"],
        "max_tokens": 50,
        "system": "Be brief.",
        "params": {"top_p": 0.9},
    }
    for choice in ("auto", "none", "required", {"name": "weather"}):
        spec = spec_for(kind, sim(tokens=4), tools=[WEATHER], tool_choice=choice, **settings)
        assert (await hear(provider, spec)).error is None


async def test_an_image_as_data_is_understood(provider: Provider, kind: ProviderKind) -> None:
    content = [{"type": "text", "text": "What?"}, {"type": "image", "data": PIXEL, "media_type": "image/png"}]
    heard = await hear(provider, spec_for(kind, messages=[{"role": "user", "content": content}]))
    assert heard.error is None


async def test_an_answer_by_schema_is_json_that_fits_it(provider: Provider, kind: ProviderKind) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "degrees": {"type": "integer"}},
        "required": ["city", "degrees"],
        "additionalProperties": False,
    }
    heard = await hear(provider, spec_for(kind, response_format={"type": "json_schema", "schema": schema}))
    answer = json.loads(heard.said())
    assert set(answer) == {"city", "degrees"}
    assert heard.finish_reason == "stop"


async def test_any_json_object_is_text_on_every_provider(provider: Provider, kind: ProviderKind) -> None:
    heard = await hear(provider, spec_for(kind, response_format={"type": "json_object"}))
    assert isinstance(json.loads(heard.said()), dict)
    assert heard.said("tool_call") == ""
    assert heard.finish_reason == "stop"


async def test_an_answer_that_hits_its_limit_says_length(provider: Provider, kind: ProviderKind) -> None:
    heard = await hear(provider, spec_for(kind, sim(tokens=50), max_tokens=7))
    assert heard.finish_reason == "length"


async def test_a_content_filter_ends_an_answer_that_is_whole(provider: Provider, kind: ProviderKind) -> None:
    heard = await hear(provider, spec_for(kind, sim(tokens=9, fault="filter")))
    assert heard.error is None
    assert heard.finish_reason == "content_filter"
    assert heard.usage is not None


async def test_a_refusal_in_words_is_the_answers_text(provider: Provider, kind: ProviderKind) -> None:
    heard = await hear(provider, spec_for(kind, sim(fault="refusal")))
    assert heard.said()
    assert heard.finish_reason in ("stop", "content_filter")


async def test_headers_are_lower_case_and_name_the_request(provider: Provider, kind: ProviderKind) -> None:
    heard = await hear(provider, spec_for(kind, sim(tokens=1)))
    assert all(name == name.lower() for name in heard.headers)
    wanted = {"openai": "x-request-id", "anthropic": "request-id", "bedrock": "x-amzn-requestid"}
    assert wanted[kind] in heard.headers


async def test_a_long_answer_in_many_languages_arrives_whole(
    provider: Provider, kind: ProviderKind, meter: Meter
) -> None:
    text = '"' + "Grüße, 世界 🌍 \\\\ " * 20 + '"'
    spec = spec_for(kind, sim(text=text))
    heard = await hear(provider, spec)
    assert heard.said() == (await meter.row(spec))["text"]
    assert "世界 🌍" in heard.said()


async def test_two_hundred_calls_run_at_once(provider: Provider, kind: ProviderKind, meter: Meter) -> None:
    specs = [spec_for(kind, sim(tokens=5, ttft_ms=300)) for _ in range(200)]
    loop = asyncio.get_running_loop()
    started = loop.time()
    heard = await asyncio.gather(*[hear(provider, spec) for spec in specs])
    assert all(one.finish_reason == "stop" for one in heard)
    assert loop.time() - started < 20  # one after the other they would take a minute
    assert (await meter.row(specs[0]))["model"] == MODELS[kind]
