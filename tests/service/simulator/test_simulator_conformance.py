"""Every event and answer is valid by the SDKs' own models, which the SDKs themselves do not check when they parse."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from anthropic.types import Message, RawMessageStreamEvent
from botocore.validate import ParamValidator
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter
from simulator_kit import Sim

if TYPE_CHECKING:
    from types_boto3_bedrock_runtime import BedrockRuntimeClient
    from types_boto3_bedrock_runtime.type_defs import MessageUnionTypeDef

PROMPTS = [
    "hello",
    "[[sim reasoning=3 cached=1 cache_write=1]]",
    '[[sim reasoning=2 tool=one,two args={"n":1}]]',
    "[[sim fault=refusal]]",
    "[[sim fault=filter reasoning=2]]",
    "[[sim tokens=0]]",
]
KEYS = {"authorization": "Bearer k", "x-api-key": "k", "anthropic-version": "2023-06-01"}
LIMITS = [1, 1000]


def payloads(text: str) -> Iterator[object]:
    for line in text.splitlines():
        if line.startswith("data: ") and line != "data: [DONE]":
            yield json.loads(line.removeprefix("data: "))


def post(sim: Sim, path: str, body: dict[str, object]) -> str:
    return sim.http.post(path, json=body, headers=KEYS).raise_for_status().text


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("prompt", PROMPTS)
def test_openai_chat_conforms(sim: Sim, prompt: str, limit: int) -> None:
    body: dict[str, object] = {"model": "m", "messages": [{"role": "user", "content": prompt}], "max_tokens": limit}
    ChatCompletion.model_validate_json(post(sim, "/openai/v1/chat/completions", body), strict=True)
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(payloads(post(sim, "/openai/v1/chat/completions", {**body, **options})))
    assert [ChatCompletionChunk.model_validate(chunk, strict=True) for chunk in chunks]


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("prompt", PROMPTS)
def test_openai_responses_conform(sim: Sim, prompt: str, limit: int, background: bool) -> None:
    body: dict[str, object] = {
        "model": "m",
        "input": prompt,
        "max_output_tokens": limit,
        "background": background,
    }
    Response.model_validate_json(post(sim, "/openai/v1/responses", body))
    event: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)
    events = list(payloads(post(sim, "/openai/v1/responses", {**body, "stream": True})))
    assert [event.validate_python(each) for each in events]


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("prompt", PROMPTS)
def test_anthropic_messages_conform(sim: Sim, prompt: str, limit: int) -> None:
    body: dict[str, object] = {"model": "m", "messages": [{"role": "user", "content": prompt}], "max_tokens": limit}
    Message.model_validate_json(post(sim, "/anthropic/v1/messages", body))
    event: TypeAdapter[RawMessageStreamEvent] = TypeAdapter(RawMessageStreamEvent)
    events = list(payloads(post(sim, "/anthropic/v1/messages", {**body, "stream": True})))
    assert [event.validate_python(each) for each in events if each != {"type": "ping"}]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_bedrock_conforms(bedrock: BedrockRuntimeClient, prompt: str) -> None:
    service = bedrock.meta.service_model
    check = ParamValidator().validate
    messages: list[MessageUnionTypeDef] = [{"role": "user", "content": [{"text": prompt}]}]
    answer = bedrock.converse(modelId="m", messages=messages)
    body = {name: value for name, value in answer.items() if name != "ResponseMetadata"}
    assert check(body, service.shape_for("ConverseResponse")).generate_report() == ""
    events = list(bedrock.converse_stream(modelId="m", messages=messages)["stream"])
    shape = service.shape_for("ConverseStreamOutput")
    assert events
    assert "".join(check(event, shape).generate_report() for event in events) == ""
