"""Bedrock's Converse and ConverseStream; the stream is binary (eventstream.py)."""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec
from typing_extensions import override

from onceq_service.simulator.ask import Ask, Provider, RefusedError, Schema, Tool, as_map
from onceq_service.simulator.dialect import Dialect, Incoming, Limits, RawHeaders, Reply, decode, retry_after
from onceq_service.simulator.eventstream import corrupt, event_headers, exception_headers, message
from onceq_service.simulator.frames import Frame, around, encode
from onceq_service.simulator.script import Block, Script

STOPS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool": "tool_use",
    "filter": "content_filtered",
    "refusal": "content_filtered",
}
ERRORS = {
    400: "ValidationException",
    401: "UnrecognizedClientException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    413: "ValidationException",
    424: "ModelErrorException",
    429: "ThrottlingException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
    529: "ServiceUnavailableException",
}
SIGNATURE = "c2ltdWxhdGVkIHNpZ25hdHVyZQ=="
_DELTA = event_headers("contentBlockDelta")


class _Result(msgspec.Struct):
    content: list[_Part] = []


class _Part(msgspec.Struct):
    text: str | None = None
    toolResult: _Result | None = None  # noqa: N815 - the wire's spelling


class _Message(msgspec.Struct):
    role: str
    content: list[_Part]


class _InputSchema(msgspec.Struct):
    json: Schema = {}


class _Spec(msgspec.Struct, rename="camel"):
    name: str
    input_schema: _InputSchema


class _Tool(msgspec.Struct, rename="camel"):
    tool_spec: _Spec | None = None


class _Named(msgspec.Struct):
    name: str


class _Choice(msgspec.Struct):
    any: Schema | None = None
    tool: _Named | None = None


class _ToolConfig(msgspec.Struct, rename="camel"):
    tools: list[_Tool]
    tool_choice: _Choice | None = None


class _Inference(msgspec.Struct, rename="camel"):
    max_tokens: int | None = None


class _JsonSchema(msgspec.Struct):
    schema: str


class _Structure(msgspec.Struct, rename="camel"):
    json_schema: _JsonSchema | None = None


class _TextFormat(msgspec.Struct):
    structure: _Structure


class _OutputConfig(msgspec.Struct, rename="camel"):
    text_format: _TextFormat | None = None


class _Body(msgspec.Struct, rename="camel"):
    messages: list[_Message] = []
    system: list[_Part] = []
    inference_config: _Inference | None = None
    tool_config: _ToolConfig | None = None
    output_config: _OutputConfig | None = None
    additional_model_request_fields: Schema = {}


class Bedrock(Dialect):
    """POST /bedrock/model/{model}/converse and /converse-stream."""

    provider: Provider = "bedrock"
    stream_type = b"application/vnd.amazon.eventstream"

    @override
    def read(self, incoming: Incoming) -> Ask:
        if incoming.action not in ("converse", "converse-stream"):
            raise RefusedError(404, f"Unknown operation {incoming.action}", code="UnknownOperationException")
        if not incoming.headers.get("authorization"):
            raise RefusedError(403, "Missing Authentication Token", code="MissingAuthenticationTokenException")
        body = decode(incoming.body or b"{}", _Body)
        if not body.messages:
            raise RefusedError(400, "A conversation must start with a user message.")
        config = body.tool_config
        return Ask(
            provider="bedrock",
            model=incoming.model,
            texts=(*_texts(body.system), *(text for m in body.messages for text in _texts(m.content))),
            stream=incoming.action == "converse-stream",
            max_tokens=body.inference_config.max_tokens if body.inference_config else None,
            tools=tuple(_tool(tool.tool_spec) for tool in (config.tools if config else ()) if tool.tool_spec),
            pick=_pick(config.tool_choice if config else None),
            schema=_schema(body.output_config),
            reasons=_reasons(body.additional_model_request_fields),
        )

    @override
    def frames(self, script: Script) -> Iterator[Frame]:
        yield _event("messageStart", {"role": "assistant"})
        for index, block in enumerate(script.blocks):
            if block.kind == "tool":  # the service opens no other kind of block with an event
                start = {"toolUse": {"toolUseId": f"tooluse_{block.id}", "name": block.name}}
                yield _event("contentBlockStart", {"contentBlockIndex": index, "start": start})
            yield from _deltas(index, block)
            yield _event("contentBlockStop", {"contentBlockIndex": index})
        yield _event("messageStop", {"stopReason": STOPS.get(script.stop, script.stop)})
        yield _event("metadata", {"metrics": _metrics(script), "usage": _usage(script)})._replace(last=True)

    @override
    def whole(self, script: Script) -> bytes:
        content = [_content(block) for block in script.blocks]
        answer = {
            "output": {"message": {"role": "assistant", "content": content}},
            "stopReason": STOPS.get(script.stop, script.stop),
            "usage": _usage(script),
            "metrics": _metrics(script),
        }
        return encode(answer)

    @override
    def headers(self, request_id: str, script: Script, limits: Limits) -> RawHeaders:
        return [(b"x-amzn-requestid", request_id.encode())]

    @override
    def refuse(self, refused: RefusedError, request_id: str) -> Reply:
        kind = refused.code if refused.code and refused.code.endswith("Exception") else None
        kind = kind or ERRORS.get(refused.status, "InternalServerException")
        headers = [
            (b"content-type", b"application/json"),
            (b"x-amzn-errortype", kind.encode()),
            (b"x-amzn-requestid", request_id.encode()),
        ]
        return Reply(refused.status, [*headers, *retry_after(refused)], encode({"message": refused.message}))

    @override
    def error_event(self, fault: str, sent: int) -> bytes:
        kind = "serviceUnavailableException" if fault == "overload" else "internalServerException"
        return message(exception_headers(kind), encode({"message": "The service can't answer now."}))

    @override
    def garbage(self) -> bytes:
        return corrupt(message(_DELTA, encode({"contentBlockIndex": 0, "delta": {"text": "?"}})))


def _texts(content: list[_Part]) -> list[str]:
    """Texts of a message and of the tool results in it."""
    found: list[str] = []
    for part in content:
        found += [part.text] if part.text else []
        found += _texts(part.toolResult.content) if part.toolResult else []
    return found


def _tool(spec: _Spec) -> Tool:
    return Tool(spec.name, spec.input_schema.json)


def _pick(choice: _Choice | None) -> str | None:
    if choice is None:
        return None
    if choice.tool is not None:
        return choice.tool.name
    return "*" if choice.any is not None else None


def _schema(config: _OutputConfig | None) -> Schema | None:
    form = config.text_format if config else None
    if form is None or form.structure.json_schema is None:
        return None
    return decode(form.structure.json_schema.schema.encode(), dict[str, object])


def _reasons(extra: Schema) -> bool:
    """Claude's `thinking` and Nova's `reasoningConfig`, both passed through by Converse."""
    setting = as_map(extra.get("thinking") or extra.get("reasoningConfig") or extra.get("reasoning_config"))
    return setting.get("type", "disabled") != "disabled"


def _event(kind: str, payload: dict[str, object]) -> Frame:
    return Frame(message(event_headers(kind), encode(payload)))


def _deltas(index: int, block: Block) -> Iterator[Frame]:
    match block.kind:
        case "reasoning":
            delta: dict[str, object] = {"reasoningContent": {"text": "@@"}}
        case "tool":
            delta = {"toolUse": {"input": "@@"}}
        case _:
            delta = {"text": "@@"}
    before, after = around(encode({"contentBlockIndex": index, "delta": delta, "p": "abcdefgh"}))
    for piece in block.pieces:
        yield Frame(message(_DELTA, before + encode(piece) + after), 1, piece, block.kind)
    if block.kind == "reasoning":
        signature = {"reasoningContent": {"signature": SIGNATURE}}
        yield _event("contentBlockDelta", {"contentBlockIndex": index, "delta": signature})


def _content(block: Block) -> dict[str, object]:
    match block.kind:
        case "reasoning":
            return {"reasoningContent": {"reasoningText": {"text": block.text, "signature": SIGNATURE}}}
        case "tool":
            return {"toolUse": {"toolUseId": f"tooluse_{block.id}", "name": block.name, "input": block.arguments}}
        case _:
            return {"text": block.text}


def _usage(script: Script) -> dict[str, int]:
    """`inputTokens` is without the cache, `totalTokens` with it."""
    usage = script.usage
    return {
        "inputTokens": usage.fresh,
        "outputTokens": usage.output,
        "totalTokens": usage.input + usage.output,
        "cacheReadInputTokens": usage.cached,
        "cacheWriteInputTokens": usage.cache_write,
    }


def _metrics(script: Script) -> dict[str, int]:
    return {"latencyMs": max(1, int((time.time() - script.started_at) * 1000))}
