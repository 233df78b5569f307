"""A JobRequest as Anthropic messages takes it. Pure functions, no I/O.

Source: the Messages reference, and `anthropic.types` of the installed SDK.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from onceq.wire import Message, Part, ResponseFormat, TextPart, Tool, ToolChoice
from onceq_service.anthropic_limit import anthropic_max_tokens
from onceq_service.providers._errors import UNSUPPORTED, error
from onceq_service.providers._shape import ANY_OBJECT, EMPTY_SCHEMA, WHOLE_ANSWER, answers_by_tool, given, json_object
from onceq_service.providers.base import CallSpec


def to_body(spec: CallSpec) -> dict[str, Any]:
    """The body of a message; raises ProviderError `unsupported_input` or `provider_bad_request`."""
    request = spec.request
    wanted: dict[str, Any] = {
        "model": spec.model_id,
        "messages": _messages(spec),
        "system": _system(spec),
        "max_tokens": anthropic_max_tokens(request),
        "temperature": request.temperature,
        "stop_sequences": request.stop or None,
        "tools": [_tool(tool) for tool in request.tools or ()] or None,
        "tool_choice": _tool_choice(request.tool_choice),
        "output_config": _output_config(request.response_format),
        "stream": True,
    }
    forced = _forced_tool(spec) if answers_by_tool(request) else {}
    return given(wanted | forced | (request.params or {}))


def _forced_tool(spec: CallSpec) -> dict[str, Any]:
    wanted = spec.request.response_format
    if spec.request.tools or wanted is None:
        raise error(spec, "anthropic", UNSUPPORTED, said="json_object can't be asked for together with tools")
    tool = {"name": wanted.name, "description": WHOLE_ANSWER, "input_schema": ANY_OBJECT}
    return {"tools": [tool], "tool_choice": {"type": "tool", "name": wanted.name}}


def _system(spec: CallSpec) -> str | list[dict[str, Any]] | None:
    """`system`, then every system message: Anthropic has one place for them, before the conversation."""
    request = spec.request
    blocks = [{"type": "text", "text": request.system}] if request.system else []
    for turn in request.turns():
        if turn.role == "system":
            blocks += _blocks(spec, turn)
    if len(blocks) == 1:
        return str(blocks[0]["text"])
    return list(blocks) or None


def _messages(spec: CallSpec) -> list[dict[str, Any]]:
    """Results of tools called in one turn belong into one user message, or the model stops calling in parallel."""
    messages: list[dict[str, Any]] = []
    for turn in spec.request.turns():
        if turn.role == "system":
            continue
        shaped = _message(spec, turn)
        if turn.role == "tool" and messages and messages[-1].get("content") and _holds_results(messages[-1]):
            messages[-1]["content"] += shaped["content"]
        else:
            messages.append(shaped)
    return messages


def _holds_results(message: Mapping[str, Any]) -> bool:
    content: Any = message["content"]
    return isinstance(content, list) and message["content"][-1]["type"] == "tool_result"


def _message(spec: CallSpec, turn: Message) -> dict[str, Any]:
    if turn.role == "tool":
        content = turn.content if isinstance(turn.content, str) else _blocks(spec, turn)
        result = {"type": "tool_result", "tool_use_id": turn.tool_call_id, "content": content}
        return {"role": "user", "content": [result]}
    role: Literal["assistant", "user"] = "assistant" if turn.role == "assistant" else "user"
    if isinstance(turn.content, str) and not turn.tool_calls:
        return {"role": role, "content": turn.content}
    calls = [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": json_object(spec, "anthropic", call.arguments)}
        for call in turn.tool_calls or ()
    ]
    return {"role": role, "content": _blocks(spec, turn) + calls}


def _blocks(spec: CallSpec, turn: Message) -> list[dict[str, Any]]:
    """Empty text is left out: Anthropic refuses empty blocks."""
    if not isinstance(turn.content, list):
        return [{"type": "text", "text": turn.content}] if turn.content else []
    return [_block(spec, turn, part) for part in turn.content]


def _block(spec: CallSpec, turn: Message, part: Part) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    if turn.role not in ("user", "tool"):
        raise error(spec, "anthropic", UNSUPPORTED, said=f"an image can't be in a {turn.role} message")
    if part.url is not None:
        return {"type": "image", "source": {"type": "url", "url": part.url}}
    return {"type": "image", "source": {"type": "base64", "media_type": part.media_type, "data": part.data}}


def _tool(tool: Tool) -> dict[str, Any]:
    shaped: dict[str, Any] = {"name": tool.name, "input_schema": tool.parameters or EMPTY_SCHEMA}
    if tool.description is not None:
        shaped["description"] = tool.description
    return shaped


def _tool_choice(choice: Literal["auto", "none", "required"] | ToolChoice | None) -> dict[str, Any] | None:
    if isinstance(choice, ToolChoice):
        return {"type": "tool", "name": choice.name}
    names = {"auto": "auto", "none": "none", "required": "any"}
    return None if choice is None else {"type": names[choice]}


def _output_config(wanted: ResponseFormat | None) -> dict[str, Any] | None:
    if wanted is None or wanted.type != "json_schema":
        return None
    return {"format": {"type": "json_schema", "schema": wanted.json_schema}}
