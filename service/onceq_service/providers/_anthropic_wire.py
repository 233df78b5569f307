"""The events of an Anthropic messages stream, decoded with msgspec: one flat struct, not an SDK object an event.

Source: Anthropic's "Streaming messages". `message_start` has the input side of usage, `message_delta` the cumulative
rest and the stop reason, `message_stop` is the end marker; `ping` may come anywhere, `error` ends a 200 stream.
Events and blocks of types that are not known here are passed over, as the versioning policy asks.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from onceq.wire import FinishReason
from onceq_service.providers._errors import from_event
from onceq_service.providers._stream import Answer
from onceq_service.providers.base import CallSpec, Delta

FINISH: Final[dict[str, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


class Head(msgspec.Struct):
    """`message_start.message`."""

    usage: dict[str, Any] | None = None


class Block(msgspec.Struct):
    """`content_block_start.content_block`."""

    type: str = ""
    id: str | None = None
    name: str | None = None
    text: str | None = None


class Piece(msgspec.Struct):
    """`content_block_delta.delta` and `message_delta.delta`."""

    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None


class Fault(msgspec.Struct):
    """`error.error`."""

    type: str = ""
    message: str = ""


class Event(msgspec.Struct):
    """One event; which fields are set depends on its type."""

    type: str
    index: int = 0
    message: Head | None = None
    content_block: Block | None = None
    delta: Piece | None = None
    usage: dict[str, Any] | None = None
    error: Fault | None = None


_decode = msgspec.json.Decoder(Event).decode


class AnthropicDecoder:
    """Folds events into deltas (_sse.EventDecoder). `by_tool`: the forced tool's arguments are the text."""

    def __init__(self, spec: CallSpec, provider: str, *, by_tool: bool) -> None:
        self.answer = Answer()
        self._spec = spec
        self._provider = provider
        self._by_tool = by_tool
        self._calls: dict[int, int] = {}  # the index of a tool_use block among all blocks -> the number of the call

    def feed(self, data: bytes, out: list[Delta]) -> None:
        """Appends the deltas of one event; raises ProviderError, or msgspec.MsgspecError for garbage."""
        event = _decode(data)
        match event.type:
            case "content_block_delta":
                if event.delta is not None:
                    self._piece(event.index, event.delta, out)
            case "content_block_start":
                if event.content_block is not None:
                    self._start(event.index, event.content_block, out)
            case "message_start":
                self._note(event.message.usage if event.message else None)
            case "message_delta":
                self._note(event.usage)
                self._stop(event.delta.stop_reason if event.delta else None)
            case "message_stop":
                self.answer.answered = self.answer.finished = self.answer.finish_reason is not None
            case "error":
                fault = event.error or Fault()
                raise from_event(self._spec, self._provider, [fault.type], fault.message)
            case _:
                pass

    def _start(self, index: int, block: Block, out: list[Delta]) -> None:
        if block.type == "tool_use":
            number = self._calls[index] = len(self._calls)
            if not self._by_tool:
                out.append(Delta("tool_call", "", number, block.id, block.name))
        elif block.type == "text" and block.text:
            out.append(Delta("text", block.text))

    def _piece(self, index: int, piece: Piece, out: list[Delta]) -> None:
        if piece.text:
            out.append(Delta("text", piece.text))
        elif piece.thinking:
            out.append(Delta("reasoning", piece.thinking))
        elif piece.partial_json and index in self._calls:
            kind = "text" if self._by_tool else "tool_call"
            out.append(Delta(kind, piece.partial_json, 0 if self._by_tool else self._calls[index]))

    def _note(self, usage: dict[str, Any] | None) -> None:
        """Counts of message_delta are cumulative: they replace those of message_start, where they are given."""
        given = {name: value for name, value in (usage or {}).items() if value is not None}
        if given:
            self.answer.usage = (self.answer.usage or {}) | given
        if given.get("speed"):
            self.answer.price_context["speed"] = str(given["speed"])

    def _stop(self, reason: str | None) -> None:
        if reason:
            self.answer.usage_final = self.answer.usage is not None
            finish = FINISH.get(reason, "other")
            self.answer.finish_reason = "stop" if self._by_tool and finish == "tool_calls" else finish
