"""The events of an OpenAI chat completions stream, decoded with msgspec: two fields of a chunk, not an SDK object.

Source: the Chat Completions streaming reference. The end marker is `finish_reason`; usage follows it in a chunk
without choices; `data: [DONE]` is last. Servers that speak the format add `reasoning_content` (DeepSeek, SGLang) or
`reasoning` (vLLM, Ollama, OpenRouter), and send errors as `{"error": {...}}` inside the stream.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from onceq.wire import FinishReason
from onceq_service.providers._errors import from_event
from onceq_service.providers._stream import Answer
from onceq_service.providers.base import CallSpec, Delta

FINISH: Final[dict[str, FinishReason]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


class Function(msgspec.Struct):
    """The changed part of a tool call."""

    name: str | None = None
    arguments: str | None = None


class ToolPiece(msgspec.Struct):
    """A piece of the tool call number `index`."""

    index: int = 0
    id: str | None = None
    function: Function | None = None


class Piece(msgspec.Struct):
    """`choices[0].delta`."""

    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[ToolPiece] | None = None


class Choice(msgspec.Struct):
    """`choices[0]`."""

    delta: Piece | None = None
    finish_reason: str | None = None


class Fault(msgspec.Struct):
    """An error inside the stream; every field may be missing."""

    message: str | None = None
    type: str | None = None
    code: str | int | None = None


class Chunk(msgspec.Struct):
    """One event."""

    choices: list[Choice] | None = None
    usage: dict[str, Any] | None = None
    service_tier: str | None = None
    error: Fault | str | None = None


_decode = msgspec.json.Decoder(Chunk).decode


class OpenAIDecoder:
    """Folds events into deltas (_sse.EventDecoder)."""

    def __init__(self, spec: CallSpec, provider: str) -> None:
        self.answer = Answer()
        self._spec = spec
        self._provider = provider

    def feed(self, data: bytes, out: list[Delta]) -> None:
        """Appends the deltas of one event; raises ProviderError, or msgspec.MsgspecError for garbage."""
        if data == b"[DONE]":
            self.answer.finished = self.answer.answered
            return
        chunk = _decode(data)
        if chunk.error is not None:
            raise self._error(chunk.error)
        self._note(chunk)
        for choice in chunk.choices or ():
            if choice.delta is not None:
                _pieces(choice.delta, out)
            if choice.finish_reason:
                self.answer.finish_reason = FINISH.get(choice.finish_reason, "other")
                self.answer.answered = True
        self.answer.usage_final = self.answer.answered and self.answer.usage is not None

    def _note(self, chunk: Chunk) -> None:
        if chunk.usage:
            self.answer.usage = chunk.usage
        if chunk.service_tier:
            self.answer.price_context["service_tier"] = chunk.service_tier

    def _error(self, fault: Fault | str) -> Exception:
        if isinstance(fault, str):
            return from_event(self._spec, self._provider, (), fault)
        names = [str(name) for name in (fault.code, fault.type) if name]
        return from_event(self._spec, self._provider, names, fault.message or "")


def _pieces(piece: Piece, out: list[Delta]) -> None:
    """A refusal is the answer's text: the model declines in words of its own."""
    if piece.content:
        out.append(Delta("text", piece.content))
    elif piece.reasoning_content or piece.reasoning:
        out.append(Delta("reasoning", piece.reasoning_content or piece.reasoning or ""))
    elif piece.refusal:
        out.append(Delta("text", piece.refusal))
    for call in piece.tool_calls or ():
        function = call.function or Function()
        out.append(Delta("tool_call", function.arguments or "", call.index, call.id, function.name))
