"""A JobRequest as OpenAI chat completions takes it. Pure functions, no I/O.

Source: the Chat Completions reference, and `openai.types.chat` of the installed SDK.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from onceq.wire import ImagePart, JobRequest, Message, Part, ResponseFormat, TextPart, Tool, ToolChoice
from onceq_service.providers._errors import UNSUPPORTED, error
from onceq_service.providers._shape import EMPTY_SCHEMA, given
from onceq_service.providers.base import CallSpec


def to_body(spec: CallSpec, base_url: str) -> dict[str, Any]:
    """The body of a chat completion; raises ProviderError `unsupported_input`."""
    request = spec.request
    wanted: dict[str, Any] = {
        "model": spec.model_id,
        "messages": _messages(spec),
        _limit_name(base_url): request.max_tokens,
        "temperature": request.temperature,
        "stop": request.stop or None,
        "tools": [_tool(tool) for tool in request.tools or ()] or None,
        "tool_choice": _tool_choice(request),
        "response_format": _response_format(request.response_format),
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return given(wanted | (request.params or {}))


def _limit_name(base_url: str) -> str:
    """OpenAI's reasoning models refuse `max_tokens`; most servers that speak its format know only that."""
    return "max_completion_tokens" if urlsplit(base_url).hostname == "api.openai.com" else "max_tokens"


def _messages(spec: CallSpec) -> list[dict[str, Any]]:
    system = spec.request.system
    head = [{"role": "system", "content": system}] if system is not None else []
    return head + [_message(spec, turn) for turn in spec.request.turns()]


def _message(spec: CallSpec, turn: Message) -> dict[str, Any]:
    message: dict[str, Any] = {"role": turn.role, "content": _content(spec, turn)}
    if turn.tool_calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in turn.tool_calls
        ]
    if turn.tool_call_id is not None:
        message["tool_call_id"] = turn.tool_call_id
    return message


def _content(spec: CallSpec, turn: Message) -> str | list[dict[str, Any]] | None:
    if not isinstance(turn.content, list):
        return turn.content
    if turn.role != "user" and any(isinstance(part, ImagePart) for part in turn.content):
        raise error(spec, "openai", UNSUPPORTED, said=f"an image can't be in a {turn.role} message")
    return [_part(part) for part in turn.content]


def _part(part: Part) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    return {"type": "image_url", "image_url": {"url": part.url or f"data:{part.media_type};base64,{part.data}"}}


def _tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name, "parameters": tool.parameters or EMPTY_SCHEMA}
    if tool.description is not None:
        function["description"] = tool.description
    return {"type": "function", "function": function}


def _tool_choice(request: JobRequest) -> str | dict[str, Any] | None:
    choice = request.tool_choice
    if isinstance(choice, ToolChoice):
        return {"type": "function", "function": {"name": choice.name}}
    return choice


def _response_format(wanted: ResponseFormat | None) -> dict[str, Any] | None:
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return {"type": "json_object"}
    return {
        "type": "json_schema",
        "json_schema": {"name": wanted.name, "schema": wanted.json_schema, "strict": wanted.strict},
    }
