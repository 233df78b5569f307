"""A job's events, folded: what the text is now, where to resume, when it is over. No I/O.

The numbers of the log decide (G6): a number seen before is skipped, a number that skips one means that something was
lost on the way, so the connection is given up and the log is asked again from the last number that arrived.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol, TypeVar

import httpx2

from onceq._flows import job_path, lost_touch
from onceq._http import PATIENT, Backoff, Call, error_of, is_retryable, retry_after_s, unexpected
from onceq.errors import APIError, ConnectionFailed, StreamLost
from onceq.wire import TERMINAL, Event, Output, ToolCall

Read = TypeVar("Read", covariant=True)
QUIET_S: Final = 45.0
"""Seconds without a byte after which a connection counts as lost: three keep-alive comments of 15 s."""
LARGEST_EVENT_BYTES: Final = 64 * 1024 * 1024
"""Bound on one event; a snapshot carries a whole answer."""


class StreamEvent(NamedTuple):
    """One event of a job's log. `seq` is its number; 0 for a snapshot, which has none."""

    name: str
    seq: int
    data: Event


Step = tuple[StreamEvent, tuple[str, ...]]
"""A new event, and what a reader of the text alone is to be shown for it."""


class Reset(str):
    """A piece that says: the text so far is void, the answer starts again with the next piece.

    As a string it is a line that tells a person so; a program tests `isinstance(piece, Reset)`, drops what it has
    collected, and goes on. `reason` is the stable code of what broke the first call.
    """

    reason: str
    __slots__ = ("reason",)

    def __new__(cls, reason: str | None) -> Reset:
        """Build the line from the event's reason."""
        self = super().__new__(cls, f"\n[the answer starts again: {reason or 'the call broke off'}]\n")
        self.reason = reason or ""
        return self


@dataclass(slots=True)
class Tool:
    """A tool call as far as its pieces have arrived."""

    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list[str])

    def add(self, data: Event) -> None:
        """Take one piece; id and name come with the first, the arguments' JSON text in any number of pieces."""
        self.id = data.id or self.id
        self.name = data.name or self.name
        self.arguments.append(data.text)


class Fold:
    """What the events so far add up to. `position` is the number to resume after."""

    def __init__(self, after: int = 0) -> None:
        self.position = after
        self.status: str | None = None
        self.resets = 0
        self.end: Event | None = None
        self._after_snapshot = False
        self._void()

    def _void(self) -> None:
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._tools: dict[int, Tool] = {}

    @property
    def ended(self) -> bool:
        """Whether the terminal event has been folded."""
        return self.end is not None

    @property
    def text(self) -> str:
        """The text of the call that counts, as far as it has arrived."""
        return _joined(self._text)

    @property
    def reasoning(self) -> str:
        """The reasoning text, as far as it has arrived."""
        return _joined(self._reasoning)

    @property
    def output(self) -> Output:
        """Everything that has arrived, in the shape of `Job.output`."""
        tools = [ToolCall(id=t.id, name=t.name, arguments="".join(t.arguments)) for _, t in sorted(self._tools.items())]
        finish_reason = self.end.finish_reason if self.end else None
        return Output(text=self.text, reasoning=self.reasoning, tool_calls=tools, finish_reason=finish_reason)

    def is_next(self, event: StreamEvent) -> bool:
        """Whether this event is new. Raises Gap when events before it are missing."""
        if event.name == "snapshot":
            return True
        if event.seq <= self.position:
            return False
        # a snapshot stands for a part of the log that is gone: what follows it has its own, later number
        if event.seq != self.position + 1 and not self._after_snapshot:
            raise Gap(f"event {event.seq} came after event {self.position}")
        return True

    def add(self, event: StreamEvent) -> tuple[str, ...]:
        """Fold a new event in; what a reader of the text alone is to be shown next, often nothing."""
        name, seq, data = event
        self._after_snapshot = name == "snapshot"
        if self._after_snapshot:
            return self._replace(data.output or Output())
        self.position = seq
        if name == "delta":
            return self._append(data)
        if name == "reset":
            return self._start_again(data.reason)
        if name in TERMINAL:
            self.status, self.end = name, data
        return ()

    def _append(self, data: Event) -> tuple[str, ...]:
        if data.kind == "text":
            self._text.append(data.text)
            return (data.text,) if data.text else ()
        if data.kind == "reasoning":
            self._reasoning.append(data.text)
        elif data.kind == "tool_call":
            self._tools.setdefault(data.index, Tool()).add(data)
        return ()

    def _start_again(self, reason: str | None) -> tuple[str, ...]:
        shown = self.text
        self._void()
        self.resets += 1
        return (Reset(reason),) if shown else ()

    def _replace(self, whole: Output) -> tuple[str, ...]:
        shown = self.text
        self._void()
        self._text, self._reasoning = [whole.text], [whole.reasoning]
        self._tools = {i: Tool(t.id, t.name, [t.arguments]) for i, t in enumerate(whole.tool_calls)}
        if whole.text.startswith(shown):
            rest = whole.text[len(shown) :]
            return (rest,) if rest else ()
        self.resets += 1
        return Reset("another call gave the answer"), whole.text


class Gap(Exception):  # noqa: N818 - caught in this house only
    """The log's numbers, or an event's shape, say that something was lost on the way: ask again."""


class Follower(Protocol[Read]):
    """What follows a log over any number of connections: `Reader` a job's, `Ends` (map/ends.py) a batch's."""

    @property
    def done(self) -> bool:
        """Whether the end of the log has been read."""
        ...

    def next_call(self) -> Call | None:
        """The request that carries on after the last event; None when there is nothing more to come."""
        ...

    def opened(self, response: httpx2.Response) -> bool:
        """Whether events follow."""
        ...

    def feed(self, sse: httpx2.ServerSentEvent) -> Read | None:
        """The event, when it is new."""
        ...

    def lost(self, outcome: httpx2.TransportError | Gap | None) -> None:
        """Take note that the connection ended."""
        ...


class Reader:
    """Follows one job to its end over any number of connections; a client lends it the socket.

    Ask `next_call`, open it, tell the answer to `opened`, put the events through `feed`, tell `lost` what broke it.
    Attempts are bounded without progress; every new event starts the count again.
    """

    def __init__(self, job_id: str, after: int = 0, backoff: Backoff = PATIENT) -> None:
        self.job_id = job_id
        self.fold = Fold(after)
        self._backoff = backoff
        self._failures = 0
        self._pause_s = 0.0
        self._at_end = False

    @property
    def done(self) -> bool:
        """Whether the end of the log has been read."""
        return self._at_end or self.fold.ended

    def next_call(self) -> Call | None:
        """The request that carries on after the last event; None when there is nothing more to come."""
        if self.done:
            return None
        position = self.fold.position
        headers = {"last-event-id": str(position)} if position else {}
        path = job_path(self.job_id, "events")
        return Call("GET", path, headers=headers, read_timeout_s=QUIET_S, after_s=self._pause_s)

    def opened(self, response: httpx2.Response) -> bool:
        """Whether events follow; an answer that is no 200 must have been read. Raises what no retry can mend."""
        if response.status_code == 200:
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                raise unexpected(response)
            return True
        if response.status_code == 204:
            self._at_end = True
        elif is_retryable(response):
            self._retry(error_of(response), retry_after_s(response))
        else:
            raise error_of(response)
        return False

    def feed(self, sse: httpx2.ServerSentEvent) -> Step | None:
        """The event folded in, when it is new; it counts as read from here on. Raises Gap."""
        event = decoded(sse)
        if not self.fold.is_next(event):
            return None
        self._failures, self._pause_s = 0, 0.0
        return event, self.fold.add(event)

    def lost(self, outcome: httpx2.TransportError | Gap | None) -> None:
        """Take note that the connection ended before the log did; raises StreamLost when that was once too often."""
        if isinstance(outcome, httpx2.TransportError):
            self._retry(error_of(outcome), None)
        else:
            self._retry(ConnectionFailed(f"the stream ended too early ({outcome or 'closed'})."), None)

    def _retry(self, error: APIError | ConnectionFailed, asked_s: float | None) -> None:
        self._failures += 1
        pause_s = self._backoff.pause_s(self._failures, asked_s)
        if pause_s is None:
            raise StreamLost(lost_touch(self.job_id, self.fold.position, error)) from error
        self._pause_s = pause_s


def decoded(sse: httpx2.ServerSentEvent) -> StreamEvent:
    """The typed event of one SSE frame. Raises Gap when the frame is damaged."""
    try:
        data = Event.model_validate_json(sse.data)
        # `id` outlives its frame in SSE, so a snapshot would be given the number of the event before it
        seq = 0 if sse.event == "snapshot" else int(sse.id)
    except ValueError as exc:  # pydantic's ValidationError is one
        raise Gap(f"event {sse.id or '?'} is damaged") from exc
    return StreamEvent(sse.event, seq, data)


def _joined(parts: list[str]) -> str:
    parts[:] = ["".join(parts)]
    return parts[0]
