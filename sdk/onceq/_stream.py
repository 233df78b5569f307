"""A job's events, folded: what the text is now, where to resume, when it is over. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field

from onceq._flows import job_path, lost_touch
from onceq._follow import Follower, Gap, StreamEvent
from onceq._http import PATIENT, Backoff
from onceq.errors import APIError, ConnectionFailed
from onceq.wire import TERMINAL, Event, Output, ToolCall

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


class Reader(Follower[Step]):
    """Follows one job to its end over any number of connections."""

    def __init__(self, job_id: str, after: int = 0, backoff: Backoff = PATIENT) -> None:
        super().__init__(job_path(job_id, "events"), backoff)
        self.job_id = job_id
        self.fold = Fold(after)

    @property
    def position(self) -> int:
        """The number of the last event that was read."""
        return self.fold.position

    @property
    def done(self) -> bool:
        """Whether the end of the log has been read."""
        return super().done or self.fold.ended

    def _taken(self, event: StreamEvent) -> Step | None:
        return (event, self.fold.add(event)) if self.fold.is_next(event) else None

    def _lost_touch(self, error: APIError | ConnectionFailed) -> str:
        return lost_touch(self.job_id, self.fold.position, error)


def _joined(parts: list[str]) -> str:
    parts[:] = ["".join(parts)]
    return parts[0]
