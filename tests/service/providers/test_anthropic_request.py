"""A job as Anthropic messages takes it."""

from __future__ import annotations

from typing import Any

import pytest

from onceq_service.anthropic_limit import DEFAULT_MAX_TOKENS
from onceq_service.providers import ProviderError
from onceq_service.providers._anthropic_request import to_body
from tests.service.providers.kit import spec_for


def shaped(**fields: Any) -> dict[str, Any]:
    return to_body(spec_for("anthropic", **fields))


def test_a_prompt_is_one_user_message_and_max_tokens_is_always_there() -> None:
    spec = spec_for("anthropic", "Hi")
    assert to_body(spec) == {
        "model": "claude-haiku-4-5",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": DEFAULT_MAX_TOKENS,
        "stream": True,
    }


def test_the_default_limit_leaves_room_for_thinking() -> None:
    thinking = {"type": "enabled", "budget_tokens": 10_000}
    sent = shaped(params={"thinking": thinking})
    assert (sent["max_tokens"], sent["thinking"]) == (10_000 + DEFAULT_MAX_TOKENS, thinking)
    assert shaped(max_tokens=12, params={"thinking": thinking})["max_tokens"] == 12


def test_plain_settings_go_under_anthropics_names() -> None:
    sent = shaped(temperature=0.0, stop=["END"], max_tokens=9)
    assert (sent["stop_sequences"], sent["max_tokens"]) == (["END"], 9)
    assert sent["temperature"] == 0.0, "the SDK's create() takes none, the host does"


def test_all_system_text_stands_before_the_conversation() -> None:
    user = {"role": "user", "content": "Hi"}
    assert shaped(system="Be brief.", messages=[user])["system"] == "Be brief."
    sent = shaped(system="Be brief.", messages=[{"role": "system", "content": "Rhyme."}, user])
    assert sent["system"] == [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Rhyme."}]
    assert sent["messages"] == [user]


def test_images_by_url_and_by_data() -> None:
    content = [
        {"type": "image", "url": "https://example.org/a.png"},
        {"type": "image", "data": "AAAA", "media_type": "image/png"},
    ]
    assert shaped(messages=[{"role": "user", "content": content}])["messages"][0]["content"] == [
        {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
    ]


@pytest.mark.parametrize("role", ["system", "assistant"])
def test_an_image_where_none_can_be_is_unsupported(role: str) -> None:
    content = [{"type": "image", "data": "AAAA", "media_type": "image/png"}]
    with pytest.raises(ProviderError) as caught:
        shaped(messages=[{"role": role, "content": content}, {"role": "user", "content": "Hi"}])
    assert (caught.value.code, caught.value.cause) == ("unsupported_input", "rejected")


def test_results_of_one_turns_tools_stand_in_one_message() -> None:
    calls = [{"id": f"c{n}", "name": "w", "arguments": f'{{"n": {n}}}'} for n in (1, 2)]
    messages = [
        {"role": "assistant", "content": "", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c1", "content": "one"},
        {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "two"}]},
        {"role": "user", "content": "And?"},
    ]
    assert shaped(messages=messages)["messages"] == [
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": f"c{n}", "name": "w", "input": {"n": n}} for n in (1, 2)],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": "one"},
                {"type": "tool_result", "tool_use_id": "c2", "content": [{"type": "text", "text": "two"}]},
            ],
        },
        {"role": "user", "content": "And?"},
    ]


@pytest.mark.parametrize("arguments", ["{", "[1]", '"text"'])
def test_arguments_that_are_no_json_object_are_a_bad_request(arguments: str) -> None:
    call = {"id": "c", "name": "w", "arguments": arguments}
    with pytest.raises(ProviderError) as caught:
        shaped(messages=[{"role": "assistant", "tool_calls": [call]}])
    assert caught.value.code == "provider_bad_request"


def test_tools_and_choices() -> None:
    sent = shaped(tools=[{"name": "now"}, {"name": "w", "description": "d", "parameters": {"type": "object"}}])
    assert sent["tools"] == [
        {"name": "now", "input_schema": {"type": "object", "properties": {}}},
        {"name": "w", "description": "d", "input_schema": {"type": "object"}},
    ]
    choices: dict[str, object] = {"auto": {"type": "auto"}, "none": {"type": "none"}, "required": {"type": "any"}}
    for choice, wanted in choices.items():
        assert shaped(tools=[{"name": "w"}], tool_choice=choice)["tool_choice"] == wanted
    named = shaped(tools=[{"name": "w"}], tool_choice={"name": "w"})
    assert named["tool_choice"] == {"type": "tool", "name": "w"}


def test_a_schema_uses_the_native_output_format() -> None:
    sent = shaped(response_format={"type": "json_schema", "schema": {"type": "object"}})
    assert sent["output_config"] == {"format": {"type": "json_schema", "schema": {"type": "object"}}}
    assert "tools" not in sent


def test_any_json_object_is_a_forced_tool() -> None:
    sent = shaped(response_format={"type": "json_object", "name": "reply"})
    assert sent["tool_choice"] == {"type": "tool", "name": "reply"}
    assert [tool["name"] for tool in sent["tools"]] == ["reply"]
    with pytest.raises(ProviderError) as caught:
        shaped(response_format={"type": "json_object"}, tools=[{"name": "w"}])
    assert caught.value.code == "unsupported_input"


def test_params_that_the_sdk_does_not_know_go_into_the_body() -> None:
    sent = shaped(params={"top_k": 5, "metadata": {"user_id": "u"}, "context_management": {"edits": []}})
    assert sent["metadata"] == {"user_id": "u"}
    assert (sent["top_k"], sent["context_management"]) == (5, {"edits": []})
