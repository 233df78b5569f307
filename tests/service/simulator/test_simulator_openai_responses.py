"""OpenAI responses through the official SDK: streams, background generation, resuming, cancelling."""

from __future__ import annotations

import json

import pytest
from openai import APIConnectionError, APIError, AsyncOpenAI, AsyncStream, BadRequestError, NotFoundError
from openai.types.responses import ResponseStreamEvent
from simulator_kit import Sim

MODEL = "gpt-4o-mini"
ENDLESS = "[[sim tokens=100000 tps=200]]"


async def events(client: AsyncOpenAI, prompt: str) -> list[ResponseStreamEvent]:
    return [event async for event in await client.responses.create(model=MODEL, input=prompt, stream=True)]


async def collect(stream: AsyncStream[ResponseStreamEvent], seen: list[ResponseStreamEvent]) -> None:
    async for event in stream:
        seen.append(event)


def text_of(seen: list[ResponseStreamEvent]) -> str:
    return "".join(event.delta for event in seen if event.type == "response.output_text.delta")


async def test_a_stream_has_every_event_of_a_message_in_order(openai: AsyncOpenAI) -> None:
    seen = await events(openai, "hello [[sim tokens=2]]")
    assert [event.type for event in seen] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in seen] == list(range(10))


async def test_the_last_event_has_the_whole_response_with_usage(openai: AsyncOpenAI) -> None:
    seen = await events(openai, "hello there [[sim tokens=9 reasoning=4 cached=2]]")
    last = seen[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == text_of(seen)
    usage = last.response.usage
    assert usage is not None
    assert usage.output_tokens == 13
    assert usage.output_tokens_details.reasoning_tokens == 4
    assert usage.input_tokens_details.cached_tokens == 2


async def test_the_same_request_gets_the_same_text_streamed_or_whole(openai: AsyncOpenAI) -> None:
    whole = await openai.responses.create(model=MODEL, input="hello")
    assert whole.status == "completed"
    assert whole.output_text == text_of(await events(openai, "hello"))


async def test_reasoning_is_summarised_in_an_item_of_its_own(openai: AsyncOpenAI) -> None:
    seen = await events(openai, "think [[sim reasoning=3 tokens=1]]")
    assert [event.type for event in seen].count("response.reasoning_summary_text.delta") == 3
    last = seen[-1]
    assert last.type == "response.completed"
    assert [item.type for item in last.response.output] == ["reasoning", "message"]


async def test_a_function_call_streams_its_arguments(openai: AsyncOpenAI) -> None:
    stream = await openai.responses.create(
        model=MODEL,
        input=[{"role": "user", "content": "weather?"}],
        tools=[
            {
                "type": "function",
                "name": "get_weather",
                "strict": False,
                "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
            }
        ],
        tool_choice="required",
        stream=True,
    )
    seen = [event async for event in stream]
    done = next(event for event in seen if event.type == "response.function_call_arguments.done")
    deltas = [event.delta for event in seen if event.type == "response.function_call_arguments.delta"]
    assert "".join(deltas) == done.arguments
    assert isinstance(json.loads(done.arguments)["city"], str)


async def test_json_output_fits_its_schema(openai: AsyncOpenAI) -> None:
    schema: dict[str, object] = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    answer = await openai.responses.create(
        model=MODEL,
        input="a number",
        text={"format": {"type": "json_schema", "name": "number", "schema": schema}},
    )
    assert isinstance(json.loads(answer.output_text)["n"], int)


async def test_max_output_tokens_makes_it_incomplete(openai: AsyncOpenAI) -> None:
    answer = await openai.responses.create(model=MODEL, input="hello", max_output_tokens=3)
    assert answer.status == "incomplete"
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"


async def test_a_refusal_has_events_of_its_own(openai: AsyncOpenAI) -> None:
    seen = await events(openai, "[[sim fault=refusal]]")
    refusal = "".join(event.delta for event in seen if event.type == "response.refusal.delta")
    assert refusal.startswith("I'm sorry")


async def test_an_error_event_ends_a_plain_stream(openai: AsyncOpenAI) -> None:
    with pytest.raises(APIError, match="server had an error"):
        await events(openai, "[[sim fault=error after=2]]")


async def test_a_background_response_is_resumed_from_its_sequence_number(openai: AsyncOpenAI, sim: Sim) -> None:
    prompt = "a long story [[sim tokens=50]]"
    first: list[ResponseStreamEvent] = []
    async with await openai.responses.create(model=MODEL, input=prompt, stream=True, background=True) as stream:
        async for event in stream:
            first.append(event)
            if len(first) == 20:
                break
    assert first[0].type == "response.created"
    name = first[0].response.id
    rest = await openai.responses.retrieve(name, stream=True, starting_after=first[-1].sequence_number)
    seen = first + [event async for event in rest]
    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    assert seen[1].type == "response.queued"
    last = seen[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == text_of(seen)
    assert len(sim.rows()) == 1


async def test_a_background_response_is_finished_and_billed_once_though_nobody_listens(
    openai: AsyncOpenAI, sim: Sim
) -> None:
    response = await openai.responses.create(model=MODEL, input="hello", background=True)
    assert response.status in ("queued", "in_progress")
    assert sim.wait_for("completed")["output_tokens"] == 20
    polled = await openai.responses.retrieve(response.id)
    assert polled.status == "completed"
    assert polled.usage is not None
    assert polled.usage.output_tokens == 20


@pytest.mark.parametrize("after", [None, 0, 5, 1000])
async def test_a_replay_starts_after_the_number_asked_for(openai: AsyncOpenAI, sim: Sim, after: int | None) -> None:
    response = await openai.responses.create(model=MODEL, input="hello", background=True)
    sim.wait_for("completed")
    if after is None:
        stream = await openai.responses.retrieve(response.id, stream=True)
    else:
        stream = await openai.responses.retrieve(response.id, stream=True, starting_after=after)
    numbers = [event.sequence_number async for event in stream]
    assert numbers == list(range(0 if after is None else after + 1, 29))


async def test_a_cut_reader_of_a_background_response_loses_nothing(openai: AsyncOpenAI, sim: Sim) -> None:
    seen: list[ResponseStreamEvent] = []
    stream = await openai.responses.create(model=MODEL, input="[[sim fault=cut after=4]]", stream=True, background=True)
    with pytest.raises(APIConnectionError):
        await collect(stream, seen)
    assert len([event for event in seen if event.type == "response.output_text.delta"]) == 4
    assert seen[0].type == "response.created"
    rest = await openai.responses.retrieve(seen[0].response.id, stream=True, starting_after=seen[-1].sequence_number)
    assert [event async for event in rest][-1].type == "response.completed"
    assert sim.row()["status"] == "completed"


async def test_cancel_stops_generation_and_bills_what_there_was(openai: AsyncOpenAI, sim: Sim) -> None:
    stream = await openai.responses.create(model=MODEL, input=ENDLESS, stream=True, background=True)
    name = ""
    async for event in stream:
        if event.type == "response.created":
            name = event.response.id
        if event.type == "response.output_text.delta":
            break
    cancelled = await openai.responses.cancel(name)
    assert cancelled.status == "cancelled"
    await collect(stream, [])  # the attached stream ends as well
    assert (await openai.responses.retrieve(name)).status == "cancelled"
    row = sim.row()
    assert row["status"] == "cancelled"
    assert row["billed"] is True
    assert (await openai.responses.cancel(name)).status == "cancelled"


@pytest.mark.parametrize("fault", ["error", "overload"])
async def test_a_background_response_can_fail(openai: AsyncOpenAI, sim: Sim, fault: str) -> None:
    stream = await openai.responses.create(
        model=MODEL, input=f"[[sim fault={fault} after=3]]", stream=True, background=True
    )
    last = [event async for event in stream][-1]
    assert last.type == "response.failed"
    assert last.response.error is not None
    assert sim.row()["status"] == "failed"


async def test_unknown_responses_and_bad_cursors_are_refused(openai: AsyncOpenAI, sim: Sim) -> None:
    with pytest.raises(NotFoundError):
        await openai.responses.retrieve("resp_nobody")
    with pytest.raises(NotFoundError):
        await openai.responses.cancel("resp_nobody")
    with pytest.raises(BadRequestError):
        await openai.responses.create(model=MODEL, input="")
    response = await openai.responses.create(model=MODEL, input="hello", background=True)
    url = f"/openai/v1/responses/{response.id}?stream=true&starting_after=x"
    assert sim.http.get(url).status_code == 401
    assert sim.http.get(url, headers={"authorization": "Bearer k"}).status_code == 400
