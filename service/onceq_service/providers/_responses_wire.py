"""The events of an OpenAI Responses stream, decoded with msgspec; and a response that was polled when it had ended.

Source: the Responses streaming reference. Each event has a `sequence_number`, behind which a background response can be
streamed again. The end marker is `response.completed` or `response.incomplete`, and has the usage in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from onceq.wire import FinishReason, Output
from onceq_service.providers._errors import from_event
from onceq_service.providers._stream import Answer
from onceq_service.providers.base import CallSpec, Delta, DeltaKind

INCOMPLETE: Final[Mapping[str, FinishReason]] = {"max_output_tokens": "length", "content_filter": "content_filter"}
TEXT: Final[Mapping[str, DeltaKind]] = {
    "response.output_text.delta": "text",
    "response.refusal.delta": "text",
    "response.reasoning_summary_text.delta": "reasoning",
    "response.reasoning_text.delta": "reasoning",
}
"""A refusal is the answer's text: the model declines in words of its own."""


class Part(msgspec.Struct):
    """A piece of an item's content."""

    type: str = ""
    text: str | None = None
    refusal: str | None = None


class Item(msgspec.Struct):
    """One item of the output: a message, a call of a tool, or reasoning."""

    type: str = ""
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    content: list[Part] | None = None
    summary: list[Part] | None = None


class Fault(msgspec.Struct):
    """Why a response failed; every field may be missing."""

    message: str | None = None
    type: str | None = None
    code: str | int | None = None


class Details(msgspec.Struct):
    """Why a response is incomplete."""

    reason: str | None = None


class Response(msgspec.Struct):
    """What of a response object is read."""

    id: str | None = None
    status: str | None = None
    output: list[Item] | None = None
    usage: dict[str, Any] | None = None
    service_tier: str | None = None
    error: Fault | None = None
    incomplete_details: Details | None = None


class Event(msgspec.Struct):
    """One event. `error` is an event of its own too, with its fields beside the type."""

    type: str
    sequence_number: int = -1
    output_index: int = 0
    delta: Any = None
    item: Item | None = None
    response: Response | None = None
    message: str | None = None
    code: str | int | None = None


_decode = msgspec.json.Decoder(Event).decode


class ResponsesDecoder:
    """Folds events into deltas (_sse.EventDecoder). Events up to number `after` are known already."""

    def __init__(self, spec: CallSpec, provider: str) -> None:
        self.answer = Answer(response=spec.resume.response if spec.resume else None)
        self._spec, self._provider = spec, provider
        self._after = spec.resume.at if spec.resume else -1
        self._calls: dict[int, int] = {}
        self._next_call = len(spec.resume.output.tool_calls) if spec.resume else 0

    def feed(self, data: bytes, out: list[Delta]) -> None:
        """Appends the deltas of one event; raises ProviderError, or msgspec.MsgspecError for garbage."""
        event = _decode(data)
        if event.type == "error":
            raise self._failed(Fault(event.message, None, event.code))
        if event.response is not None:
            self.take(event.response)
        if event.sequence_number > self._after:
            self._deltas(event, out)

    def _deltas(self, event: Event, out: list[Delta]) -> None:
        kind, at = TEXT.get(event.type), event.sequence_number
        if kind is not None and isinstance(event.delta, str):
            out.append(Delta(kind, event.delta, at=at))
        elif event.type == "response.function_call_arguments.delta" and isinstance(event.delta, str):
            # One whose beginning was read by another worker is the last that readers have.
            index = self._calls.setdefault(event.output_index, self._next_call - 1)
            out.append(Delta("tool_call", event.delta, index, at=at))
        elif event.type == "response.output_item.added" and event.item and event.item.type == "function_call":
            index = self._calls[event.output_index] = self._next_call
            self._next_call += 1
            out.append(Delta("tool_call", event.item.arguments or "", index, event.item.call_id, event.item.name, at))

    def take(self, response: Response) -> None:
        """Learns its id, and how it has ended; raises ProviderError when it failed."""
        self.answer.response = self.answer.response or response.id
        if response.status in ("failed", "cancelled"):
            raise self._failed(response.error or Fault(f"the response was {response.status}"))
        if response.status in ("completed", "incomplete"):
            self.conclude(response)

    def conclude(self, response: Response) -> None:
        """Takes over how a response has ended well."""
        answer = self.answer
        answer.finish_reason, answer.answered, answer.finished = _finish_reason(response), True, True
        answer.usage, answer.usage_final = response.usage, response.usage is not None
        if response.service_tier:
            answer.price_context["service_tier"] = response.service_tier

    def _failed(self, fault: Fault) -> Exception:
        names = [str(name) for name in (fault.code, fault.type) if name]
        return from_event(self._spec, self._provider, names, fault.message or "")


def _finish_reason(response: Response) -> FinishReason:
    if response.status == "incomplete":
        reason = response.incomplete_details.reason if response.incomplete_details else None
        return INCOMPLETE.get(reason or "", "other")
    called = any(item.type == "function_call" for item in response.output or ())
    return "tool_calls" if called else "stop"


def tail(response: Response, had: Output) -> list[Delta]:
    """What an ended response has beyond what readers had of it."""
    items = response.output or []
    text = "".join(part.text or part.refusal or "" for item in items for part in item.content or ())
    reasoning = "".join(part.text or "" for item in items for part in item.summary or ())
    calls = [item for item in items if item.type == "function_call"]
    rest = [Delta("reasoning", reasoning[len(had.reasoning) :]), Delta("text", text[len(had.text) :])]
    return [delta for delta in rest if delta.text] + _calls_left(calls, had)


def _calls_left(calls: list[Item], had: Output) -> list[Delta]:
    """The parts of tool calls that are new: of the last one known its rest, of the others all."""
    left: list[Delta] = []
    for n, item in enumerate(calls):
        arguments = item.arguments or ""
        if n >= len(had.tool_calls):
            left.append(Delta("tool_call", arguments, n, item.call_id, item.name))
        elif rest := arguments[len(had.tool_calls[n].arguments) :]:
            left.append(Delta("tool_call", rest, n))
    return left
