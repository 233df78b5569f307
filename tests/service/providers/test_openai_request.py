"""A job as OpenAI chat completions takes it."""

from __future__ import annotations

from typing import Any

import pytest

from onceq_service.providers import ProviderError
from onceq_service.providers._openai_request import to_body
from tests.service.providers.kit import spec_for

OURS = "http://localhost:8000/v1"


def shaped(base_url: str = OURS, **fields: Any) -> dict[str, Any]:
    return to_body(spec_for("openai", **fields), base_url)


def test_a_prompt_is_one_user_message_and_usage_is_asked_for() -> None:
    spec = spec_for("openai", "Hi")
    assert to_body(spec, OURS) == {
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


@pytest.mark.parametrize(
    ("base_url", "name"),
    [
        ("https://api.openai.com/v1", "max_completion_tokens"),
        ("https://api.openai.com.example.org/v1", "max_tokens"),
        (OURS, "max_tokens"),
    ],
)
def test_the_limit_has_the_name_that_the_host_knows(base_url: str, name: str) -> None:
    sent = shaped(base_url, max_tokens=5)
    assert {key: value for key, value in sent.items() if "max" in key} == {name: 5}


def test_plain_settings_go_under_their_own_names() -> None:
    sent = shaped(temperature=0.0, stop=["END"])
    assert (sent["temperature"], sent["stop"]) == (0.0, ["END"])


def test_system_comes_before_the_messages() -> None:
    sent = shaped(
        system="Be brief.", messages=[{"role": "system", "content": "Rhyme."}, {"role": "user", "content": "Hi"}]
    )
    assert [message["content"] for message in sent["messages"]] == ["Be brief.", "Rhyme.", "Hi"]


def test_images_are_urls_with_the_data_inside_where_there_is_data() -> None:
    content = [
        {"type": "text", "text": "Which?"},
        {"type": "image", "url": "https://example.org/a.png"},
        {"type": "image", "data": "AAAA", "media_type": "image/png"},
    ]
    assert shaped(messages=[{"role": "user", "content": content}])["messages"][0]["content"] == [
        {"type": "text", "text": "Which?"},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ]


@pytest.mark.parametrize("role", ["system", "assistant", "tool"])
def test_an_image_where_none_can_be_is_unsupported(role: str) -> None:
    message = {"role": role, "content": [{"type": "image", "data": "AAAA", "media_type": "image/png"}]}
    if role == "tool":
        message["tool_call_id"] = "c"
    with pytest.raises(ProviderError) as caught:
        shaped(messages=[message])
    assert (caught.value.code, caught.value.cause) == ("unsupported_input", "rejected")


def test_tool_calls_and_their_results_keep_their_ids() -> None:
    call = {"id": "c1", "name": "weather", "arguments": '{"city": "Oslo"}'}
    messages = [
        {"role": "assistant", "content": "Let me see.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "Snow"},
    ]
    function = {"name": "weather", "arguments": '{"city": "Oslo"}'}
    assert shaped(messages=messages)["messages"] == [
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [{"id": "c1", "type": "function", "function": function}],
        },
        {"role": "tool", "content": "Snow", "tool_call_id": "c1"},
    ]


def test_a_tool_without_parameters_has_an_empty_schema() -> None:
    sent = shaped(tools=[{"name": "now"}, {"name": "w", "description": "d", "parameters": {"type": "object"}}])
    assert sent["tools"] == [
        {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}},
        {"type": "function", "function": {"name": "w", "description": "d", "parameters": {"type": "object"}}},
    ]


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", "auto"),
        ("none", "none"),
        ("required", "required"),
        ({"name": "w"}, {"type": "function", "function": {"name": "w"}}),
    ],
)
def test_tool_choice(choice: object, sent: object) -> None:
    assert shaped(tools=[{"name": "w"}], tool_choice=choice)["tool_choice"] == sent


def test_response_formats() -> None:
    assert "response_format" not in shaped(response_format={"type": "text"})
    assert shaped(response_format={"type": "json_object"})["response_format"] == {"type": "json_object"}
    wanted = {"type": "json_schema", "name": "city", "schema": {"type": "object"}, "strict": False}
    assert shaped(response_format=wanted)["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "city", "schema": {"type": "object"}, "strict": False},
    }


def test_params_that_the_sdk_does_not_know_go_into_the_body() -> None:
    sent = shaped(params={"top_p": 0.5, "seed": 7, "reasoning_effort": "low", "top_k": 40, "guided_json": {"a": 1}})
    assert (sent["top_p"], sent["seed"], sent["reasoning_effort"]) == (0.5, 7, "low")
    assert (sent["top_k"], sent["guided_json"]) == (40, {"a": 1})
