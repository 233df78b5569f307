"""A job as Bedrock's ConverseStream takes it; botocore's own validator judges each shape."""

from __future__ import annotations

import base64
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from onceq_service.providers import ProviderError
from onceq_service.providers._bedrock_request import to_converse
from tests.service.providers.kit import spec_for


@pytest.fixture(scope="module")
def judge() -> Any:
    model: Any = botocore.session.get_session().get_service_model("bedrock-runtime")
    return model.operation_model("ConverseStream").input_shape


@pytest.fixture
def shaped(judge: Any) -> Any:
    def shape(**fields: Any) -> dict[str, Any]:
        arguments = to_converse(spec_for("bedrock", **fields))
        report: Any = ParamValidator().validate(arguments, judge)
        assert not report.has_errors(), report.generate_report()
        return arguments

    return shape


def test_a_prompt_is_one_user_message(shaped: Any) -> None:
    assert shaped(prompt="Hi") == {
        "modelId": "amazon.nova-lite-v1:0",
        "messages": [{"role": "user", "content": [{"text": "Hi"}]}],
    }


def test_settings_stand_in_the_inference_config(shaped: Any) -> None:
    sent = shaped(max_tokens=5, temperature=0.0, stop=["END"], params={"top_p": 0.5})
    assert sent["inferenceConfig"] == {"maxTokens": 5, "temperature": 0.0, "stopSequences": ["END"], "topP": 0.5}
    assert "additionalModelRequestFields" not in sent


def test_params_are_the_models_own_unless_converse_has_them(shaped: Any) -> None:
    params = {
        "top_k": 40,
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "performanceConfig": {"latency": "optimized"},
        "guardrailConfig": {"guardrailIdentifier": "g123", "guardrailVersion": "1"},
        "additionalModelRequestFields": {"a": 1},
    }
    sent = shaped(params=params)
    assert sent["performanceConfig"] == {"latency": "optimized"}
    assert sent["guardrailConfig"] == {"guardrailIdentifier": "g123", "guardrailVersion": "1"}
    own = {"a": 1, "top_k": 40, "thinking": {"type": "enabled", "budget_tokens": 1024}}
    assert sent["additionalModelRequestFields"] == own


def test_all_system_text_stands_before_the_conversation(shaped: Any) -> None:
    messages = [{"role": "system", "content": "Rhyme."}, {"role": "user", "content": "Hi"}]
    sent = shaped(system="Be brief.", messages=messages)
    assert sent["system"] == [{"text": "Be brief."}, {"text": "Rhyme."}]
    assert [message["role"] for message in sent["messages"]] == ["user"]


def test_an_image_goes_as_bytes(shaped: Any) -> None:
    data = base64.b64encode(b"\x89PNG").decode()
    content = [{"type": "image", "data": data, "media_type": "image/jpeg"}]
    sent = shaped(messages=[{"role": "user", "content": content}])
    assert sent["messages"][0]["content"] == [{"image": {"format": "jpeg", "source": {"bytes": b"\x89PNG"}}}]


@pytest.mark.parametrize(
    ("image", "code"),
    [
        ({"url": "https://example.org/a.png"}, "unsupported_input"),
        ({"data": "AAAAA", "media_type": "image/png"}, "provider_bad_request"),
    ],
)
def test_an_image_that_can_not_be_sent_is_told_before_the_request(image: dict[str, str], code: str) -> None:
    messages = [{"role": "user", "content": [{"type": "image", **image}]}]
    with pytest.raises(ProviderError) as caught:
        to_converse(spec_for("bedrock", messages=messages))
    assert (caught.value.code, caught.value.cause) == (code, "rejected")


def test_neighbours_of_one_role_are_joined(shaped: Any) -> None:
    calls = [{"id": f"c{n}", "name": "w", "arguments": f'{{"n": {n}}}'} for n in (1, 2)]
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hm.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c1", "content": "one"},
        {"role": "tool", "tool_call_id": "c2", "content": "two"},
        {"role": "user", "content": "And?"},
    ]
    sent = shaped(messages=messages, tools=[{"name": "w"}])
    assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "user"]
    assert sent["messages"][1]["content"] == [
        {"text": "Hm."},
        {"toolUse": {"toolUseId": "c1", "name": "w", "input": {"n": 1}}},
        {"toolUse": {"toolUseId": "c2", "name": "w", "input": {"n": 2}}},
    ]
    assert sent["messages"][2]["content"] == [
        {"toolResult": {"toolUseId": "c1", "content": [{"text": "one"}]}},
        {"toolResult": {"toolUseId": "c2", "content": [{"text": "two"}]}},
        {"text": "And?"},
    ]


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        (None, None),
        ("auto", {"auto": {}}),
        ("required", {"any": {}}),
        ({"name": "w"}, {"tool": {"name": "w"}}),
    ],
)
def test_tools_and_choices(shaped: Any, choice: object, sent: object) -> None:
    config = shaped(tools=[{"name": "w", "description": "d"}], tool_choice=choice)["toolConfig"]
    schema: dict[str, object] = {"json": {"type": "object", "properties": {}}}
    assert config["tools"] == [{"toolSpec": {"name": "w", "description": "d", "inputSchema": schema}}]
    assert config.get("toolChoice") == sent


def test_no_tool_may_be_called_when_none_is_offered(shaped: Any) -> None:
    assert "toolConfig" not in shaped(tools=[{"name": "w"}], tool_choice="none")


def test_a_schema_uses_the_native_output_format_and_keeps_other_output_settings(shaped: Any) -> None:
    wanted = {"type": "json_schema", "name": "city", "schema": {"type": "object"}}
    sent = shaped(response_format=wanted, params={"outputConfig": {"effort": "low"}})
    structure = {"jsonSchema": {"name": "city", "schema": '{"type":"object"}'}}
    text_format = {"type": "json_schema", "structure": structure}
    assert sent["outputConfig"] == {"effort": "low", "textFormat": text_format}


def test_any_json_object_is_a_forced_tool(shaped: Any) -> None:
    config = shaped(response_format={"type": "json_object", "name": "reply"})["toolConfig"]
    assert config["toolChoice"] == {"tool": {"name": "reply"}}
    with pytest.raises(ProviderError) as caught:
        to_converse(spec_for("bedrock", response_format={"type": "json_object"}, tools=[{"name": "w"}]))
    assert caught.value.code == "unsupported_input"
