"""Bedrock Converse through boto3; botocore's decoder checks every checksum of the binary stream."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from simulator_kit import Sim

from onceq_service.simulator.eventstream import event_headers, message

if TYPE_CHECKING:
    from types_boto3_bedrock_runtime import BedrockRuntimeClient
    from types_boto3_bedrock_runtime.type_defs import (
        ConverseStreamOutputTypeDef,
        MessageUnionTypeDef,
        ToolTypeDef,
    )

MODEL = "amazon.nova-lite-v1:0"


def said(prompt: str) -> list[MessageUnionTypeDef]:
    return [{"role": "user", "content": [{"text": prompt}]}]


def events(client: BedrockRuntimeClient, prompt: str, model: str = MODEL) -> list[ConverseStreamOutputTypeDef]:
    return list(client.converse_stream(modelId=model, messages=said(prompt))["stream"])


def kinds(seen: list[ConverseStreamOutputTypeDef]) -> list[str]:
    return [next(iter(event)) for event in seen]


def text_of(seen: list[ConverseStreamOutputTypeDef]) -> str:
    return "".join(
        event["contentBlockDelta"]["delta"].get("text", "") for event in seen if "contentBlockDelta" in event
    )


def test_a_stream_has_a_start_deltas_a_stop_and_metadata(bedrock: BedrockRuntimeClient) -> None:
    seen = events(bedrock, "hello [[sim tokens=3]]")
    assert kinds(seen) == ["messageStart", *["contentBlockDelta"] * 3, "contentBlockStop", "messageStop", "metadata"]
    assert "messageStop" in seen[-2]
    assert seen[-2]["messageStop"]["stopReason"] == "end_turn"


def test_metadata_has_usage_and_metrics(bedrock: BedrockRuntimeClient) -> None:
    last = events(bedrock, "hello there, friend [[sim tokens=3 cached=4 cache_write=1]]")[-1]
    assert "metadata" in last
    usage = last["metadata"]["usage"]
    assert usage["outputTokens"] == 3
    assert usage.get("cacheReadInputTokens") == 4
    assert usage.get("cacheWriteInputTokens") == 1
    assert usage["totalTokens"] == usage["inputTokens"] + 4 + 1 + 3
    assert last["metadata"]["metrics"]["latencyMs"] >= 0


def test_the_same_request_gets_the_same_text_streamed_or_whole(bedrock: BedrockRuntimeClient) -> None:
    whole = bedrock.converse(modelId=MODEL, messages=said("hello"))
    assert "message" in whole["output"]
    assert whole["output"]["message"]["content"] == [{"text": text_of(events(bedrock, "hello"))}]
    assert whole["usage"]["outputTokens"] == 20


def test_reasoning_is_a_block_of_its_own_and_signed(bedrock: BedrockRuntimeClient) -> None:
    deltas = [
        e["contentBlockDelta"] for e in events(bedrock, "[[sim reasoning=2 tokens=1]]") if "contentBlockDelta" in e
    ]
    assert [delta["contentBlockIndex"] for delta in deltas] == [0, 0, 0, 1]
    assert all("reasoningContent" in delta["delta"] for delta in deltas[:3])
    assert deltas[2]["delta"].get("reasoningContent", {}).get("signature")


def test_tool_use_opens_a_block_and_streams_its_input(bedrock: BedrockRuntimeClient) -> None:
    tool: ToolTypeDef = {
        "toolSpec": {
            "name": "get_weather",
            "inputSchema": {"json": {"type": "object", "properties": {"city": {"type": "string"}}}},
        }
    }
    stream = bedrock.converse_stream(
        modelId=MODEL, messages=said("weather?"), toolConfig={"tools": [tool], "toolChoice": {"any": {}}}
    )
    seen = list(stream["stream"])
    assert kinds(seen)[:2] == ["messageStart", "contentBlockStart"]
    inputs = [
        e["contentBlockDelta"]["delta"].get("toolUse", {}).get("input", "") for e in seen if "contentBlockDelta" in e
    ]
    assert isinstance(json.loads("".join(inputs))["city"], str)
    assert "messageStop" in seen[-2]
    assert seen[-2]["messageStop"]["stopReason"] == "tool_use"


def test_json_output_fits_its_schema(bedrock: BedrockRuntimeClient) -> None:
    schema = json.dumps({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})
    answer = bedrock.converse(
        modelId=MODEL,
        messages=said("a number"),
        outputConfig={"textFormat": {"type": "json_schema", "structure": {"jsonSchema": {"schema": schema}}}},
    )
    assert "message" in answer["output"]
    (block,) = answer["output"]["message"]["content"]
    assert "text" in block
    assert isinstance(json.loads(block["text"])["n"], int)


def test_max_tokens_is_a_stop_reason(bedrock: BedrockRuntimeClient) -> None:
    answer = bedrock.converse(modelId=MODEL, messages=said("hello"), inferenceConfig={"maxTokens": 4})
    assert answer["stopReason"] == "max_tokens"
    assert answer["usage"]["outputTokens"] == 4


def test_a_filtered_answer_says_so(bedrock: BedrockRuntimeClient) -> None:
    assert bedrock.converse(modelId=MODEL, messages=said("[[sim fault=filter]]"))["stopReason"] == "content_filtered"


@pytest.mark.parametrize(
    "model",
    [
        "anthropic.claude-haiku-4-5-20251001-v1:0",
        "eu.amazon.nova-lite-v1:0",
        "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-lite-v1:0",
    ],
)
def test_model_ids_with_colons_and_slashes_arrive_unharmed(bedrock: BedrockRuntimeClient, sim: Sim, model: str) -> None:
    assert text_of(events(bedrock, "hello", model))
    assert sim.row()["model"] == model


def test_thinking_is_given_when_the_request_enables_it(bedrock: BedrockRuntimeClient) -> None:
    answer = bedrock.converse(
        modelId=MODEL,
        messages=said("think"),
        system=[{"text": "be brief"}],
        additionalModelRequestFields={"thinking": {"type": "enabled", "budget_tokens": 1024}},
    )
    assert "message" in answer["output"]
    assert "reasoningContent" in answer["output"]["message"]["content"][0]


def test_a_request_without_a_signature_is_403(sim: Sim) -> None:
    answer = sim.http.post(f"/bedrock/model/{MODEL}/converse", json={"messages": []})
    assert answer.status_code == 403
    assert answer.headers["x-amzn-errortype"] == "MissingAuthenticationTokenException"


def test_an_unknown_operation_is_404(sim: Sim) -> None:
    assert sim.http.post(f"/bedrock/model/{MODEL}/invoke", json={}).status_code == 404


def test_a_message_is_framed_as_the_format_says() -> None:
    framed = message(event_headers("messageStart"), b'{"role":"assistant"}')
    assert int.from_bytes(framed[:4], "big") == len(framed)
    assert int.from_bytes(framed[4:8], "big") == len(event_headers("messageStart"))
