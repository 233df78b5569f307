"""A log of numbered events, followed over any number of connections: what to ask, when again, when to give up. No I/O.

A job's log (`Reader`, `_stream.py`) and a batch's (`BatchEnds`, `_batch.py`) are followed alike. The numbers decide
(G6): one seen before is skipped, one that skips others means that something was lost on the way, so the connection is
given up and the log is asked again from the last number that arrived.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final, Generic, NamedTuple, TypeVar

import httpx2

from onceq._http import PATIENT, Backoff, Call, error_of, is_retryable, retry_after_s, unexpected
from onceq.errors import APIError, ConnectionFailed, StreamLost
from onceq.wire import Event

Read = TypeVar("Read", covariant=True)
QUIET_S: Final = 45.0
"""Seconds without a byte after which a connection counts as lost: three keep-alive comments of 15 s."""
LARGEST_EVENT_BYTES: Final = 64 * 1024 * 1024
"""Bound on one event; a snapshot carries a whole answer."""


class StreamEvent(NamedTuple):
    """One event of a job's log. `seq` is its number; 0 for a snapshot, which has none.

    Of a batch (`follow_batch`) it is the end of one of its jobs, numbered over the whole batch.
    """

    name: str
    seq: int
    data: Event


class Gap(Exception):  # noqa: N818 - caught in this house only
    """The log's numbers, or an event's shape, say that something was lost on the way: ask again."""


class Follower(ABC, Generic[Read]):
    """Follows one log to its end; a client lends it the socket.

    Ask `next_call`, open it, tell the answer to `opened`, put the events through `feed`, tell `lost` what broke it.
    Attempts are bounded without progress; every new event starts the count again.
    """

    def __init__(self, path: str, backoff: Backoff = PATIENT) -> None:
        self._path = path
        self._backoff = backoff
        self._failures = 0
        self._pause_s = 0.0
        self._at_end = False

    @property
    @abstractmethod
    def position(self) -> int:
        """The number of the last event that was read; 0 before the first."""

    @property
    def done(self) -> bool:
        """Whether the end of the log has been read."""
        return self._at_end

    def next_call(self) -> Call | None:
        """The request that carries on after the last event; None when there is nothing more to come."""
        if self.done:
            return None
        headers = {"last-event-id": str(self.position)} if self.position else {}
        return Call("GET", self._path, headers=headers, read_timeout_s=QUIET_S, after_s=self._pause_s)

    def opened(self, response: httpx2.Response) -> bool:
        """Whether events follow; an answer that is no 200 must have been read. Raises what no retry can mend."""
        if response.status_code == 200:
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                raise unexpected(response)
            return True
        if response.status_code == 204:
            self._at_end = True
            self._progress()
        elif is_retryable(response):
            self._retry(error_of(response), retry_after_s(response))
        else:
            raise error_of(response)
        return False

    def feed(self, sse: httpx2.ServerSentEvent) -> Read | None:
        """What the event comes to, when it is new; it counts as read from here on. Raises Gap."""
        read = self._taken(decoded(sse))
        if read is not None:
            self._progress()
        return read

    def lost(self, outcome: httpx2.TransportError | Gap | None) -> None:
        """Take note that the connection ended before the log did; raises StreamLost when that was once too often."""
        if isinstance(outcome, httpx2.TransportError):
            self._retry(error_of(outcome), None)
        else:
            self._retry(ConnectionFailed(f"the stream ended too early ({outcome or 'closed'})."), None)

    @abstractmethod
    def _taken(self, event: StreamEvent) -> Read | None:
        """Reads the event; None where it was read before. Raises Gap."""

    @abstractmethod
    def _lost_touch(self, error: APIError | ConnectionFailed) -> str:
        """What is said when attempts are used up: that the work goes on, and how to come back to it."""

    def _progress(self) -> None:
        self._failures, self._pause_s = 0, 0.0

    def _retry(self, error: APIError | ConnectionFailed, asked_s: float | None) -> None:
        self._failures += 1
        pause_s = self._backoff.pause_s(self._failures, asked_s)
        if pause_s is None:
            raise StreamLost(self._lost_touch(error)) from error
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
