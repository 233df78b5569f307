"""OpenAI responses: the events of a stream, each with its sequence number, and the response object."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec
from typing_extensions import override

from onceq_service.simulator import openai_errors
from onceq_service.simulator.ask import Ask, Provider, RefusedError, Schema, Tool
from onceq_service.simulator.dialect import Dialect, Incoming, Limits, RawHeaders, Reply, decode
from onceq_service.simulator.frames import Frame, around, encode, sse
from onceq_service.simulator.script import Block, Script

Status = Literal["queued", "in_progress", "completed", "incomplete", "cancelled", "failed"]
INCOMPLETE = {"length": "max_output_tokens", "filter": "content_filter"}


class _Part(msgspec.Struct):
    type: str = "input_text"
    text: str | None = None


class _Item(msgspec.Struct):
    type: str = "message"
    content: str | list[_Part] | None = None
    output: str | list[_Part] | None = None


class _Tool(msgspec.Struct):
    type: str
    name: str = ""
    parameters: Schema | None = None


class _Format(msgspec.Struct):
    type: str = "text"
    schema: Schema = {}


class _Text(msgspec.Struct):
    format: _Format | None = None


class _Reasoning(msgspec.Struct):
    effort: str | None = None


class _Body(msgspec.Struct):
    model: str
    input: str | list[_Item]
    instructions: str | None = None
    stream: bool | None = False
    background: bool | None = False
    max_output_tokens: int | None = None
    tools: list[_Tool] | None = None
    tool_choice: str | _Tool | None = None
    text: _Text | None = None
    reasoning: _Reasoning | None = None


class OpenAIResponses(Dialect):
    """POST /openai/v1/responses."""

    provider: Provider = "openai"
    stream_type = b"text/event-stream; charset=utf-8"

    @override
    def read(self, incoming: Incoming) -> Ask:
        openai_errors.check_key(incoming)
        body = decode(incoming.body, _Body)
        if not body.input:
            raise RefusedError(400, "Missing required parameter: 'input'.")
        instructions = (body.instructions,) if body.instructions else ()
        return Ask(
            provider="openai",
            model=body.model,
            texts=(*instructions, *_texts(body.input)),
            stream=bool(body.stream),
            max_tokens=body.max_output_tokens,
            tools=tuple(Tool(t.name, t.parameters or {}) for t in body.tools or () if t.type == "function"),
            pick=_pick(body.tool_choice),
            schema=_schema(body.text),
            reasons=body.reasoning is not None and body.reasoning.effort not in (None, "none", "minimal"),
            background=bool(body.background),
        )

    @override
    def frames(self, script: Script) -> Iterator[Frame]:
        return _Events(script).all()

    @override
    def whole(self, script: Script) -> bytes:
        return encode(response(script, final_status(script), script.blocks))

    @override
    def headers(self, request_id: str, script: Script, limits: Limits) -> RawHeaders:
        return openai_errors.headers(request_id, script, limits)

    @override
    def refuse(self, refused: RefusedError, request_id: str) -> Reply:
        return openai_errors.refuse(refused, request_id)

    @override
    def error_event(self, fault: str, sent: int) -> bytes:
        error = openai_errors.stream_error(fault)
        return sse({**error, "type": "error", "sequence_number": sent, "error": error}, "error")

    @override
    def garbage(self) -> bytes:
        return b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","del\n\n'


def response(script: Script, status: Status, blocks: tuple[Block, ...] = ()) -> dict[str, object]:
    """The response object; usage only when nothing more will come."""
    ended = status in ("completed", "incomplete")
    reason = {"reason": INCOMPLETE.get(script.stop, script.stop)} if status == "incomplete" else None
    ask = script.ask
    return {
        "id": response_id(script),
        "object": "response",
        "created_at": int(script.started_at),
        "status": status,
        "background": ask.background,
        "error": _error(script) if status == "failed" else None,
        "incomplete_details": reason,
        "instructions": None,
        "max_output_tokens": ask.max_tokens,
        "metadata": {},
        "model": ask.model,
        "output": [_item(script, n, block) for n, block in enumerate(blocks)],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": _usage(script) if ended else None,
        "user": None,
    }


def failed(script: Script, number: int) -> Frame:
    """The last event of a response that fails."""
    kind = "response.failed"
    payload = {"type": kind, "sequence_number": number, "response": response(script, "failed")}
    return Frame(sse(payload, kind), last=True)


def _error(script: Script) -> dict[str, object]:
    error = openai_errors.stream_error(script.fault.name if script.fault else "error")
    return {"code": error["code"], "message": error["message"]}


def response_id(script: Script) -> str:
    """The id by which the response is asked for again."""
    return f"resp_{script.id}"


def final_status(script: Script) -> Status:
    """How the response ends when nothing goes wrong."""
    return "incomplete" if script.stop in INCOMPLETE else "completed"


class _Events:
    """Numbers events from 0; the n-th frame has sequence number n."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.number = -1

    def all(self) -> Iterator[Frame]:
        script = self.script
        first: Status = "queued" if script.ask.background else "in_progress"
        yield self.event("response.created", response=response(script, first))
        if script.ask.background:
            yield self.event("response.queued", response=response(script, first))
        yield self.event("response.in_progress", response=response(script, "in_progress"))
        for index, block in enumerate(script.blocks):
            yield from self.item(index, block)
        status = final_status(script)
        done = self.event(f"response.{status}", response=response(script, status, script.blocks))
        yield done._replace(last=True)

    def event(self, kind: str, **fields: object) -> Frame:
        self.number += 1
        return Frame(sse({"type": kind, "sequence_number": self.number, **fields}, kind))

    def item(self, index: int, block: Block) -> Iterator[Frame]:
        opened = _opened(_item(self.script, index, block), block)
        yield self.event("response.output_item.added", output_index=index, item=opened)
        at: dict[str, object] = {"item_id": opened["id"], "output_index": index}
        match block.kind:
            case "tool":
                yield from self.deltas("response.function_call_arguments.delta", block, at)
                yield self.event("response.function_call_arguments.done", arguments=block.text, name=block.name, **at)
            case "reasoning":
                summary = {**at, "summary_index": 0}
                yield from self.part(block, summary, "reasoning_summary_part", "reasoning_summary_text")
            case "refusal":
                yield from self.part(block, {**at, "content_index": 0}, "content_part", "refusal")
            case "text":
                yield from self.part(block, {**at, "content_index": 0}, "content_part", "output_text")
        whole = _item(self.script, index, block)
        yield self.event("response.output_item.done", output_index=index, item=whole)

    def part(self, block: Block, at: dict[str, object], part: str, text: str) -> Iterator[Frame]:
        logprobs: dict[str, object] = {"logprobs": []} if block.kind == "text" else {}
        yield self.event(f"response.{part}.added", part=_part(block, ""), **at)
        yield from self.deltas(f"response.{text}.delta", block, {**at, **logprobs})
        field = "refusal" if block.kind == "refusal" else "text"
        yield self.event(f"response.{text}.done", **{field: block.text}, **at, **logprobs)
        yield self.event(f"response.{part}.done", part=_part(block, block.text), **at)

    def deltas(self, kind: str, block: Block, at: dict[str, object]) -> Iterator[Frame]:
        sample = sse({"type": kind, **at, "delta": "@@", "sequence_number": -77}, kind)
        before, rest = around(sample)
        between, after = around(rest, b"-77")
        for piece in block.pieces:
            self.number += 1
            data = b"%b%b%b%d%b" % (before, encode(piece), between, self.number, after)
            yield Frame(data, 1, piece, block.kind)


def _texts(content: str | list[_Item]) -> list[str]:
    if isinstance(content, str):
        return [content]
    return [text for item in content for side in (item.content, item.output) for text in _part_texts(side)]


def _part_texts(content: str | list[_Part] | None) -> list[str]:
    if isinstance(content, str):
        return [content]
    return [part.text for part in content or () if part.text]


def _pick(choice: str | _Tool | None) -> str | None:
    if isinstance(choice, _Tool):
        return choice.name or None
    return "*" if choice == "required" else None


def _schema(text: _Text | None) -> Schema | None:
    if text is None or text.format is None or text.format.type == "text":
        return None
    return text.format.schema


def _part(block: Block, text: str) -> dict[str, object]:
    match block.kind:
        case "reasoning":
            return {"type": "summary_text", "text": text}
        case "refusal":
            return {"type": "refusal", "refusal": text}
        case _:
            return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _item(script: Script, index: int, block: Block) -> dict[str, object]:
    status = "completed"
    match block.kind:
        case "tool":
            call = {"call_id": f"call_{block.id}", "name": block.name, "arguments": block.text}
            return {"id": f"fc_{block.id}", "type": "function_call", "status": status, **call}
        case "reasoning":
            return {"id": f"rs_{script.id}{index}", "type": "reasoning", "summary": [_part(block, block.text)]}
        case _:
            content = [_part(block, block.text)]
            item = {"id": f"msg_{script.id}{index}", "type": "message", "status": status}
            return {**item, "role": "assistant", "content": content}


def _opened(item: dict[str, object], block: Block) -> dict[str, object]:
    """The item as it is announced, before its content."""
    match block.kind:
        case "tool":
            return {**item, "status": "in_progress", "arguments": ""}
        case "reasoning":
            return {**item, "summary": []}
        case _:
            return {**item, "status": "in_progress", "content": []}


def _usage(script: Script) -> dict[str, object]:
    usage = script.usage
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": usage.cache_write},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.input + usage.output,
    }
