"""A JobRequest as Bedrock's ConverseStream takes it. Pure functions, no I/O.

Source: the ConverseStream reference, and the service model of the installed botocore.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

import msgspec

from onceq.wire import ImagePart, JobRequest, Message, Part, ResponseFormat, TextPart, Tool, ToolChoice
from onceq_service.providers._errors import BAD_REQUEST, UNSUPPORTED, error
from onceq_service.providers._shape import ANY_OBJECT, EMPTY_SCHEMA, WHOLE_ANSWER, answers_by_tool, json_object
from onceq_service.providers.base import CallSpec

TOP_LEVEL: Final[frozenset[str]] = frozenset({
    "guardrailConfig", "performanceConfig", "serviceTier", "requestMetadata", "promptVariables",
    "additionalModelResponseFieldPaths", "additionalModelRequestFields", "outputConfig",
})  # fmt: skip
"""Names of `params` that are fields of ConverseStream itself; every other name is the model's own."""


def to_converse(spec: CallSpec) -> dict[str, Any]:
    """The arguments of `converse_stream`; raises ProviderError `unsupported_input` or `provider_bad_request`."""
    request = spec.request
    wanted: dict[str, Any] = {
        "modelId": spec.model_id,
        "messages": _messages(spec),
        "system": _system(spec) or None,
        "inferenceConfig": _inference(request) or None,
        "toolConfig": _forced_tool(spec) if answers_by_tool(request) else _tool_config(request),
    }
    arguments = {name: value for name, value in wanted.items() if value is not None} | _params(request)
    if (output := _output_config(request.response_format)) is not None:
        arguments["outputConfig"] = arguments.get("outputConfig", {}) | output
    return arguments


def _forced_tool(spec: CallSpec) -> dict[str, Any]:
    wanted = spec.request.response_format
    if spec.request.tools or wanted is None:
        raise error(spec, "bedrock", UNSUPPORTED, said="json_object can't be asked for together with tools")
    tool = {"name": wanted.name, "description": WHOLE_ANSWER, "inputSchema": {"json": ANY_OBJECT}}
    return {"tools": [{"toolSpec": tool}], "toolChoice": {"tool": {"name": wanted.name}}}


def _inference(request: JobRequest) -> dict[str, Any]:
    wanted = {
        "maxTokens": request.max_tokens,
        "temperature": request.temperature,
        "stopSequences": request.stop or None,
        "topP": _top_p(request),
    }
    return {name: value for name, value in wanted.items() if value is not None}


def _top_p(request: JobRequest) -> Any:
    """`top_p` is the one sampling parameter without a field of ours that Converse has a field for."""
    params = request.params or {}
    return params.get("topP", params.get("top_p"))


def _params(request: JobRequest) -> dict[str, Any]:
    """ConverseStream's own fields as themselves, everything else to the model in additionalModelRequestFields."""
    params = {name: value for name, value in (request.params or {}).items() if name not in ("topP", "top_p")}
    top: dict[str, Any] = {name: value for name, value in params.items() if name in TOP_LEVEL}
    own = {name: value for name, value in params.items() if name not in TOP_LEVEL}
    if own:
        top["additionalModelRequestFields"] = top.get("additionalModelRequestFields", {}) | own
    return top


def _system(spec: CallSpec) -> list[dict[str, Any]]:
    """`system`, then every system message: Converse has one place for them, before the conversation."""
    blocks = [{"text": spec.request.system}] if spec.request.system else []
    for turn in spec.request.turns():
        if turn.role == "system":
            blocks += _blocks(spec, turn)
    return blocks


def _messages(spec: CallSpec) -> list[dict[str, Any]]:
    """Roles alternate in Converse: neighbours of one role (the results of several tools above all) are joined."""
    messages: list[dict[str, Any]] = []
    for turn in spec.request.turns():
        if turn.role == "system":
            continue
        shaped = _message(spec, turn)
        if messages and messages[-1]["role"] == shaped["role"]:
            messages[-1]["content"] += shaped["content"]
        else:
            messages.append(shaped)
    return messages


def _message(spec: CallSpec, turn: Message) -> dict[str, Any]:
    if turn.role == "tool":
        content = _blocks(spec, turn) or [{"text": " "}]
        return {"role": "user", "content": [{"toolResult": {"toolUseId": turn.tool_call_id, "content": content}}]}
    calls = [
        {"toolUse": {"toolUseId": call.id, "name": call.name, "input": json_object(spec, "bedrock", call.arguments)}}
        for call in turn.tool_calls or ()
    ]
    return {"role": "assistant" if turn.role == "assistant" else "user", "content": _blocks(spec, turn) + calls}


def _blocks(spec: CallSpec, turn: Message) -> list[dict[str, Any]]:
    """Empty text is left out: Converse refuses blank blocks."""
    if not isinstance(turn.content, list):
        return [{"text": turn.content}] if turn.content else []
    return [_block(spec, turn, part) for part in turn.content]


def _block(spec: CallSpec, turn: Message, part: Part) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"text": part.text}
    if turn.role not in ("user", "tool"):
        raise error(spec, "bedrock", UNSUPPORTED, said=f"an image can't be in a {turn.role} message")
    return {"image": {"format": str(part.media_type).removeprefix("image/"), "source": {"bytes": _bytes(spec, part)}}}


def _bytes(spec: CallSpec, image: ImagePart) -> bytes:
    """Converse takes the bytes alone, and onceq fetches no URL for anyone."""
    if image.data is None:
        raise error(spec, "bedrock", UNSUPPORTED, said="an image must come as base64 data, not as a URL")
    try:
        return base64.b64decode(image.data, validate=True)
    except binascii.Error as exc:
        raise error(spec, "bedrock", BAD_REQUEST, said="an image's data is not base64") from exc


def _tool_config(request: JobRequest) -> dict[str, Any] | None:
    """Converse knows no choice `none`: without tools none can be called, unless the conversation has tool results."""
    if not request.tools or (request.tool_choice == "none" and not _mentions_tools(request)):
        return None
    config: dict[str, Any] = {"tools": [_tool(tool) for tool in request.tools]}
    if isinstance(request.tool_choice, ToolChoice):
        config["toolChoice"] = {"tool": {"name": request.tool_choice.name}}
    elif request.tool_choice == "required":
        config["toolChoice"] = {"any": {}}
    elif request.tool_choice is not None:
        config["toolChoice"] = {"auto": {}}
    return config


def _mentions_tools(request: JobRequest) -> bool:
    """Converse requires toolConfig as soon as a turn has a toolUse or toolResult block."""
    return any(turn.tool_calls or turn.role == "tool" for turn in request.turns())


def _tool(tool: Tool) -> dict[str, Any]:
    shaped: dict[str, Any] = {"name": tool.name, "inputSchema": {"json": tool.parameters or EMPTY_SCHEMA}}
    if tool.description:
        shaped["description"] = tool.description
    return {"toolSpec": shaped}


def _output_config(wanted: ResponseFormat | None) -> dict[str, Any] | None:
    if wanted is None or wanted.type != "json_schema":
        return None
    schema = msgspec.json.encode(wanted.json_schema).decode()
    structure = {"jsonSchema": {"name": wanted.name, "schema": schema}}
    return {"textFormat": {"type": "json_schema", "structure": structure}}
