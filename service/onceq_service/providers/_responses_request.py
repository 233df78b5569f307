"""A JobRequest as OpenAI's Responses API takes it, run in the background. Pure functions, no I/O.

Source: the Responses reference and the guide to background mode, and `openai.types.responses` of the installed SDK.
A background response is stored by OpenAI (`store`), or it could not be read again.
"""

from __future__ import annotations

from typing import Any

from onceq.wire import ImagePart, JobRequest, Message, Part, ResponseFormat, TextPart, Tool, ToolChoice
from onceq_service.providers._errors import UNSUPPORTED, error
from onceq_service.providers._shape import EMPTY_SCHEMA, given
from onceq_service.providers.base import CallSpec


def to_body(spec: CallSpec) -> dict[str, Any]:
    """The body of a response; raises ProviderError `unsupported_input`."""
    request = spec.request
    if request.stop:
        raise error(spec, "openai", UNSUPPORTED, said="a response that can be resumed takes no stop sequences")
    wanted: dict[str, Any] = {
        "model": spec.model_id,
        "input": [item for turn in request.turns() for item in _items(spec, turn)],
        "instructions": request.system,
        "max_output_tokens": request.max_tokens,
        "temperature": request.temperature,
        "tools": [_tool(tool) for tool in request.tools or ()] or None,
        "tool_choice": _tool_choice(request),
        "text": _text(request.response_format),
        "background": True,
        "store": True,
        "stream": True,
    }
    return given(wanted | (request.params or {}))


def _items(spec: CallSpec, turn: Message) -> list[dict[str, Any]]:
    """A turn is a message, the calls in it and the answers to them are items of their own."""
    if turn.role == "tool":
        return [{"type": "function_call_output", "call_id": turn.tool_call_id, "output": _plain(spec, turn)}]
    said = [{"role": turn.role, "content": _content(spec, turn)}] if turn.content is not None else []
    calls = [
        {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments}
        for call in turn.tool_calls or ()
    ]
    return [*said, *calls]


def _content(spec: CallSpec, turn: Message) -> str | list[dict[str, Any]] | None:
    if turn.role != "user" or not isinstance(turn.content, list):
        return _plain(spec, turn)
    return [_part(part) for part in turn.content]


def _plain(spec: CallSpec, turn: Message) -> str:
    """Text alone, as all but a user's turn must be."""
    if not isinstance(turn.content, list):
        return turn.content or ""
    if any(isinstance(part, ImagePart) for part in turn.content):
        raise error(spec, "openai", UNSUPPORTED, said=f"an image can't be in a {turn.role} message")
    return "".join(part.text for part in turn.content if isinstance(part, TextPart))


def _part(part: Part) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "input_text", "text": part.text}
    url = part.url or f"data:{part.media_type};base64,{part.data}"
    return {"type": "input_image", "image_url": url, "detail": "auto"}


def _tool(tool: Tool) -> dict[str, Any]:
    """`strict` is off, as it is in chat completions: a schema written for those may be looser."""
    function: dict[str, Any] = {
        "type": "function", "name": tool.name, "parameters": tool.parameters or EMPTY_SCHEMA, "strict": False,
    }  # fmt: skip
    if tool.description is not None:
        function["description"] = tool.description
    return function


def _tool_choice(request: JobRequest) -> str | dict[str, Any] | None:
    choice = request.tool_choice
    return {"type": "function", "name": choice.name} if isinstance(choice, ToolChoice) else choice


def _text(wanted: ResponseFormat | None) -> dict[str, Any] | None:
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return {"format": {"type": "json_object"}}
    shape = {"type": "json_schema", "name": wanted.name, "schema": wanted.json_schema, "strict": wanted.strict}
    return {"format": shape}
