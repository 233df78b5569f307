"""Anthropic messages, streamed and whole."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec
from typing_extensions import override

from onceq_service.simulator.ask import Ask, Provider, RefusedError, Schema, Tool
from onceq_service.simulator.dialect import Dialect, Incoming, Limits, RawHeaders, Reply, decode, retry_after
from onceq_service.simulator.frames import Frame, around, encode, sse
from onceq_service.simulator.script import Block, Script

STOPS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool": "tool_use",
    "filter": "refusal",
    "refusal": "refusal",
}
ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}
SIGNATURE = "c2ltdWxhdGVkIHNpZ25hdHVyZQ=="


class _Part(msgspec.Struct):
    type: str = "text"
    text: str | None = None
    content: str | list[_Part] | None = None


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Part]


class _Tool(msgspec.Struct):
    name: str
    input_schema: Schema = {}


class _Choice(msgspec.Struct):
    type: str
    name: str | None = None


class _Thinking(msgspec.Struct):
    type: str


class _Format(msgspec.Struct):
    type: str
    schema: Schema = {}


class _OutputConfig(msgspec.Struct):
    format: _Format | None = None


class _Body(msgspec.Struct):
    model: str
    messages: list[_Message]
    max_tokens: int
    stream: bool = False
    system: str | list[_Part] | None = None
    tools: list[_Tool] = []
    tool_choice: _Choice | None = None
    thinking: _Thinking | None = None
    output_config: _OutputConfig | None = None


class Anthropic(Dialect):
    """POST /anthropic/v1/messages."""

    provider: Provider = "anthropic"
    stream_type = b"text/event-stream; charset=utf-8"

    @override
    def read(self, incoming: Incoming) -> Ask:
        _check_headers(incoming)
        body = decode(incoming.body, _Body)
        if not body.messages:
            raise RefusedError(400, "messages: at least one message is required")
        form = body.output_config.format if body.output_config else None
        return Ask(
            provider="anthropic",
            model=body.model,
            texts=(*_texts(body.system), *(text for m in body.messages for text in _texts(m.content))),
            stream=body.stream,
            max_tokens=body.max_tokens,
            tools=tuple(Tool(tool.name, tool.input_schema) for tool in body.tools),
            pick=_pick(body.tool_choice),
            schema=form.schema if form else None,
            reasons=body.thinking is not None and body.thinking.type != "disabled",
        )

    @override
    def frames(self, script: Script) -> Iterator[Frame]:
        message: dict[str, object] = {**_message(script), "content": []}
        yield _event("message_start", message={**message, "usage": {**_usage(script), "output_tokens": 1}})
        for index, block in enumerate(script.blocks):
            yield _event("content_block_start", index=index, content_block=_opening(block))
            if index == 0:
                yield _event("ping")
            yield from _deltas(index, block)
            yield _event("content_block_stop", index=index)
        delta = {"stop_reason": _stop(script), "stop_sequence": None}
        yield _event("message_delta", delta=delta, usage=_final_usage(script))
        yield _event("message_stop")._replace(last=True)

    @override
    def whole(self, script: Script) -> bytes:
        return encode({**_message(script), "stop_reason": _stop(script), "usage": _usage(script)})

    @override
    def headers(self, request_id: str, script: Script, limits: Limits) -> RawHeaders:
        named = {
            "request-id": f"req_{request_id}",
            "anthropic-organization-id": "onceq-simulator",
        }
        for name, quota in (
            ("requests", limits.requests),
            ("input-tokens", limits.input),
            ("output-tokens", limits.output),
        ):
            if quota is not None:
                named[f"anthropic-ratelimit-{name}-limit"] = str(quota.limit)
                named[f"anthropic-ratelimit-{name}-remaining"] = str(quota.remaining)
                named[f"anthropic-ratelimit-{name}-reset"] = _next_minute()
        return [(name.encode(), value.encode()) for name, value in named.items()]

    @override
    def refuse(self, refused: RefusedError, request_id: str) -> Reply:
        error = {"type": ERRORS.get(refused.status, "api_error"), "message": refused.message}
        body = encode({"type": "error", "error": error, "request_id": f"req_{request_id}"})
        headers = [(b"content-type", b"application/json"), (b"request-id", f"req_{request_id}".encode())]
        return Reply(refused.status, [*headers, *retry_after(refused)], body)

    @override
    def error_event(self, fault: str, sent: int) -> bytes:
        error = {"type": "api_error", "message": "Internal server error"}
        if fault == "overload":
            error = {"type": "overloaded_error", "message": "Overloaded"}
        return sse({"type": "error", "error": error}, "error")

    @override
    def garbage(self) -> bytes:
        return b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"te\n\n'


def _next_minute() -> str:
    """When the rate limits start again, RFC 3339."""
    return datetime.fromtimestamp((time.time() // 60 + 1) * 60, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _check_headers(incoming: Incoming) -> None:
    if not (incoming.headers.get("x-api-key") or incoming.headers.get("authorization")):
        raise RefusedError(401, "x-api-key header is required")
    if not incoming.headers.get("anthropic-version"):
        raise RefusedError(400, "anthropic-version: header is required")


def _texts(content: str | list[_Part] | None) -> list[str]:
    """Texts of a message and of the tool results in it."""
    if isinstance(content, str):
        return [content]
    return [text for part in content or () for text in ([part.text] if part.text else _texts(part.content))]


def _pick(choice: _Choice | None) -> str | None:
    if choice is None or choice.type in ("auto", "none"):
        return None
    return choice.name or "*"


def _stop(script: Script) -> str:
    return STOPS.get(script.stop, script.stop)


def _event(kind: str, **fields: object) -> Frame:
    return Frame(sse({"type": kind, **fields}, kind))


def _opening(block: Block) -> dict[str, object]:
    match block.kind:
        case "reasoning":
            return {"type": "thinking", "thinking": "", "signature": ""}
        case "tool":
            return {"type": "tool_use", "id": f"toolu_{block.id}", "name": block.name, "input": {}}
        case _:
            return {"type": "text", "text": ""}


def _deltas(index: int, block: Block) -> Iterator[Frame]:
    match block.kind:
        case "reasoning":
            delta = {"type": "thinking_delta", "thinking": "@@"}
        case "tool":
            delta = {"type": "input_json_delta", "partial_json": "@@"}
        case _:
            delta = {"type": "text_delta", "text": "@@"}
    before, after = around(_event("content_block_delta", index=index, delta=delta).data)
    for piece in block.pieces:
        yield Frame(before + encode(piece) + after, 1, piece, block.kind)
    if block.kind == "reasoning":
        signature = {"type": "signature_delta", "signature": SIGNATURE}
        yield _event("content_block_delta", index=index, delta=signature)


def _content(block: Block) -> dict[str, object]:
    match block.kind:
        case "reasoning":
            return {"type": "thinking", "thinking": block.text, "signature": SIGNATURE}
        case "tool":
            return {**_opening(block), "input": block.arguments}
        case _:
            return {"type": "text", "text": block.text}


def _message(script: Script) -> dict[str, object]:
    return {
        "id": f"msg_{script.id}",
        "type": "message",
        "role": "assistant",
        "model": script.ask.model,
        "content": [_content(block) for block in script.blocks],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _usage(script: Script) -> dict[str, object]:
    """`input_tokens` here is without the cache, unlike OpenAI's."""
    usage = script.usage
    return {
        "input_tokens": usage.fresh,
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cached,
        "cache_creation": {"ephemeral_5m_input_tokens": usage.cache_write, "ephemeral_1h_input_tokens": 0},
        "output_tokens": usage.output,
        "service_tier": "standard",
    }


def _final_usage(script: Script) -> dict[str, object]:
    names = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
    usage = _usage(script)
    return {name: usage[name] for name in names} | _thinking(script)


def _thinking(script: Script) -> dict[str, object]:
    count = script.usage.reasoning
    return {"output_tokens_details": {"thinking_tokens": count}} if count else {}
