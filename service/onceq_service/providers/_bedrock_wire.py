"""The events of a Bedrock ConverseStream: botocore's binary decoder frames them, msgspec reads their JSON.

Source: the ConverseStream reference. `messageStop` is the end marker; `metadata` with the usage comes after it.
An exception is a message of its own type (`:message-type` exception, `:exception-type` in lowerCamel).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from botocore.eventstream import EventStreamBuffer, ParserError

from onceq.wire import FinishReason
from onceq_service.providers._errors import from_event
from onceq_service.providers._stream import Answer, GarbageError
from onceq_service.providers.base import CallSpec, Delta

FINISH: Final[dict[str, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "content_filtered": "content_filter",
    "guardrail_intervened": "content_filter",
}


class ToolUse(msgspec.Struct, rename="camel"):
    """`start.toolUse` has id and name, `delta.toolUse` a piece of the input."""

    tool_use_id: str | None = None
    name: str | None = None
    input: str | None = None


class Reasoning(msgspec.Struct):
    """`delta.reasoningContent`; a signature or redacted content is passed over."""

    text: str | None = None


class Piece(msgspec.Struct, rename="camel"):
    """`contentBlockDelta.delta`."""

    text: str | None = None
    tool_use: ToolUse | None = None
    reasoning_content: Reasoning | None = None


class Start(msgspec.Struct, rename="camel"):
    """`contentBlockStart.start`."""

    tool_use: ToolUse | None = None


class Event(msgspec.Struct, rename="camel"):
    """The payload of any event; which fields are set depends on its type."""

    content_block_index: int = 0
    start: Start | None = None
    delta: Piece | None = None
    stop_reason: str | None = None
    usage: dict[str, Any] | None = None
    message: str | None = None


_decode = msgspec.json.Decoder(Event).decode


class BedrockDecoder:
    """_stream.Decoder. `by_tool`: the forced tool's arguments are the text."""

    def __init__(self, spec: CallSpec, provider: str, *, by_tool: bool) -> None:
        self.answer = Answer()
        self._spec = spec
        self._provider = provider
        self._by_tool = by_tool
        self._calls: dict[int, int] = {}  # the index of a toolUse block among all blocks -> the number of the call
        self._buffer = EventStreamBuffer()

    def feed(self, chunk: bytes, out: list[Delta]) -> None:
        """See _stream.Decoder."""
        self._buffer.add_data(chunk)
        try:
            for message in self._buffer:
                headers: Any = message.headers  # botocore-stubs call them an int
                self._take(headers, message.payload, out)
        except (ParserError, msgspec.MsgspecError, UnicodeDecodeError) as exc:
            raise GarbageError("a message is not the event that it should be") from exc

    def end(self, out: list[Delta]) -> None:
        """See _stream.Decoder; a message is whole or nothing."""

    def _take(self, headers: Mapping[str, Any], payload: bytes, out: list[Delta]) -> None:
        if headers.get(":message-type") != "event":
            raise self._error(headers, payload)
        match headers.get(":event-type"):
            case "contentBlockDelta":
                event = _decode(payload)
                self._piece(event.content_block_index, event.delta or Piece(), out)
            case "contentBlockStart":
                event = _decode(payload)
                self._start(event.content_block_index, event.start or Start(), out)
            case "messageStop":
                self._stop(_decode(payload).stop_reason or "")
            case "metadata":
                self.answer.usage = _decode(payload).usage
                self.answer.usage_final = self.answer.usage is not None
                self.answer.finished = self.answer.answered
            case _:
                pass

    def _start(self, index: int, start: Start, out: list[Delta]) -> None:
        if start.tool_use is not None:
            number = self._calls[index] = len(self._calls)
            if not self._by_tool:
                out.append(Delta("tool_call", "", number, start.tool_use.tool_use_id, start.tool_use.name))

    def _piece(self, index: int, piece: Piece, out: list[Delta]) -> None:
        if piece.text:
            out.append(Delta("text", piece.text))
        elif piece.reasoning_content is not None and piece.reasoning_content.text:
            out.append(Delta("reasoning", piece.reasoning_content.text))
        elif piece.tool_use is not None and piece.tool_use.input:
            kind = "text" if self._by_tool else "tool_call"
            out.append(Delta(kind, piece.tool_use.input, 0 if self._by_tool else self._calls.get(index, 0)))

    def _stop(self, reason: str) -> None:
        finish = FINISH.get(reason, "other")
        self.answer.finish_reason = "stop" if self._by_tool and finish == "tool_calls" else finish
        self.answer.answered = True

    def _error(self, headers: Mapping[str, Any], payload: bytes) -> Exception:
        """`exception` messages are modelled and have JSON; `error` messages carry code and text in their headers."""
        name = headers.get(":exception-type") or headers.get(":error-code") or ""
        text = headers.get(":error-message") or (_decode(payload).message if payload else "") or ""
        return from_event(self._spec, self._provider, [str(name)], str(text))
