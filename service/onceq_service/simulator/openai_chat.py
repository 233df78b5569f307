"""OpenAI chat completions, streamed and whole. `n` other than 1, audio and logprobs are not served."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from typing_extensions import override

from onceq_service.simulator import openai_errors
from onceq_service.simulator.ask import Ask, Provider, RefusedError, Schema, Tool
from onceq_service.simulator.dialect import Dialect, Incoming, Limits, RawHeaders, Reply, decode
from onceq_service.simulator.frames import Frame, around, encode, sse
from onceq_service.simulator.script import Block, Script

STOPS = {"stop": "stop", "length": "length", "tool": "tool_calls", "filter": "content_filter", "refusal": "stop"}
DELTA_FIELDS = {"text": "content", "reasoning": "reasoning_content", "refusal": "refusal"}
"""`reasoning_content` is what OpenAI-compatible servers send; OpenAI itself keeps the reasoning of this format."""


class _Part(msgspec.Struct):
    type: str = "text"
    text: str | None = None


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Part] | None = None


class _Function(msgspec.Struct):
    name: str
    parameters: Schema = {}


class _Tool(msgspec.Struct):
    type: str = "function"
    function: _Function | None = None


class _JsonSchema(msgspec.Struct):
    schema: Schema = {}


class _Format(msgspec.Struct):
    type: str = "text"
    json_schema: _JsonSchema | None = None


class _StreamOptions(msgspec.Struct):
    include_usage: bool = False


class _Body(msgspec.Struct):
    model: str
    messages: list[_Message]
    stream: bool | None = False
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    tools: list[_Tool] | None = None
    tool_choice: str | _Tool | None = None
    response_format: _Format | None = None
    reasoning_effort: str | None = None
    seed: int | None = None


class OpenAIChat(Dialect):
    """POST /openai/v1/chat/completions."""

    provider: Provider = "openai"
    stream_type = b"text/event-stream; charset=utf-8"

    @override
    def read(self, incoming: Incoming) -> Ask:
        openai_errors.check_key(incoming)
        body = decode(incoming.body, _Body)
        if not body.messages:
            raise RefusedError(400, "Invalid 'messages': empty array. Expected an array with minimum length 1.")
        limit = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
        return Ask(
            provider="openai",
            model=body.model,
            texts=tuple(text for message in body.messages for text in _texts(message)),
            stream=bool(body.stream),
            max_tokens=limit,
            tools=tuple(_tool(tool.function) for tool in body.tools or () if tool.function),
            pick=_pick(body.tool_choice),
            schema=_schema(body.response_format),
            reasons=body.reasoning_effort not in (None, "none", "minimal"),
            salt=body.seed,
            include_usage=body.stream_options is not None and body.stream_options.include_usage,
        )

    @override
    def frames(self, script: Script) -> Iterator[Frame]:
        yield Frame(_chunk(script, {"role": "assistant", "content": "", "refusal": None}))
        calls = 0
        for block in script.blocks:
            if block.kind == "tool":
                yield from _tool_frames(script, block, calls)
                calls += 1
            else:
                yield from _text_frames(script, block)
        yield Frame(_chunk(script, {}, STOPS.get(script.stop, script.stop)))
        if script.ask.include_usage:
            yield Frame(sse({**_envelope(script), "choices": [], "usage": _usage(script)}))
        yield Frame(b"data: [DONE]\n\n", last=True)

    @override
    def whole(self, script: Script) -> bytes:
        choice = {
            "index": 0,
            "message": _message(script),
            "logprobs": None,
            "finish_reason": STOPS.get(script.stop, script.stop),
        }
        envelope = {**_envelope(script), "object": "chat.completion"}
        return encode({**envelope, "choices": [choice], "usage": _usage(script)})

    @override
    def headers(self, request_id: str, script: Script, limits: Limits) -> RawHeaders:
        return openai_errors.headers(request_id, script, limits)

    @override
    def refuse(self, refused: RefusedError, request_id: str) -> Reply:
        return openai_errors.refuse(refused, request_id)

    @override
    def error_event(self, fault: str, sent: int) -> bytes:
        return sse({"error": openai_errors.stream_error(fault)})

    @override
    def garbage(self) -> bytes:
        return b'data: {"id":"chatcmpl-\xef\xbf\xbd","choices":[{"delta":{"conte\n\n'


def _texts(message: _Message) -> list[str]:
    if isinstance(message.content, str):
        return [message.content]
    return [part.text for part in message.content or () if part.text]


def _tool(function: _Function) -> Tool:
    return Tool(function.name, function.parameters)


def _pick(choice: str | _Tool | None) -> str | None:
    if isinstance(choice, _Tool):
        return choice.function.name if choice.function else None
    return "*" if choice == "required" else None


def _schema(form: _Format | None) -> Schema | None:
    if form is None or form.type == "text":
        return None
    return form.json_schema.schema if form.json_schema else {}


def _envelope(script: Script) -> dict[str, object]:
    return {
        "id": f"chatcmpl-{script.id}",
        "object": "chat.completion.chunk",
        "created": int(script.started_at),
        "model": script.ask.model,
        "service_tier": "default",
        "system_fingerprint": "fp_simulator",
    }


def _chunk(script: Script, delta: dict[str, object], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    usage = {"usage": None} if script.ask.include_usage else {}
    return sse({**_envelope(script), "choices": [choice], **usage})


def _text_frames(script: Script, block: Block) -> Iterator[Frame]:
    before, after = around(_chunk(script, {DELTA_FIELDS[block.kind]: "@@"}))
    for piece in block.pieces:
        yield Frame(before + encode(piece) + after, 1, piece, block.kind)


def _tool_frames(script: Script, block: Block, index: int) -> Iterator[Frame]:
    function = {"name": block.name, "arguments": ""}
    opening = {"index": index, "id": f"call_{block.id}", "type": "function", "function": function}
    yield Frame(_chunk(script, {"tool_calls": [opening]}))
    before, after = around(_chunk(script, {"tool_calls": [{"index": index, "function": {"arguments": "@@"}}]}))
    for piece in block.pieces:
        yield Frame(before + encode(piece) + after, 1, piece, "tool")


def _message(script: Script) -> dict[str, object]:
    calls = [
        {"id": f"call_{b.id}", "type": "function", "function": {"name": b.name, "arguments": b.text}}
        for b in script.blocks
        if b.kind == "tool"
    ]
    reasoning = script.pieces_of("reasoning")
    return {
        "role": "assistant",
        "content": script.pieces_of("text") if script.has("text") else None,
        "refusal": script.pieces_of("refusal") or None,
        "annotations": [],
        **({"tool_calls": calls} if calls else {}),
        **({"reasoning_content": reasoning} if reasoning else {}),
    }


def _usage(script: Script) -> dict[str, object]:
    usage = script.usage
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached,
            "cache_write_tokens": usage.cache_write,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
