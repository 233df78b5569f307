"""The ends of a map's jobs, read from the one stream of its batch: what to ask, and where to go on. No I/O."""

from __future__ import annotations

import httpx2

from onceq._http import PATIENT, Call, error_of, is_retryable, retry_after_s, unexpected
from onceq._stream import QUIET_S, Gap, StreamEvent, decoded
from onceq.errors import APIError, ConnectionFailed, StreamLost


class Ends:
    """Follows a batch over any number of connections, as `Reader` follows a job; a client lends it the socket.

    It is `done` when the service says that no job of the batch is left; `again` goes on behind it after another post.
    """

    def __init__(self, batch: str) -> None:
        self.batch = batch
        self.position = 0
        self._at_end = False
        self._failures = 0
        self._pause_s = 0.0

    @property
    def done(self) -> bool:
        """Whether no job of the batch is left."""
        return self._at_end

    def again(self) -> None:
        """More jobs have come into the batch."""
        self._at_end = False

    def next_call(self) -> Call | None:
        """The request that carries on after the last event; None when nothing more is to come."""
        if self.done:
            return None
        headers = {"last-event-id": str(self.position)} if self.position else {}
        path = f"/v1/events?batch={self.batch}"
        return Call("GET", path, headers=headers, read_timeout_s=QUIET_S, after_s=self._pause_s)

    def opened(self, response: httpx2.Response) -> bool:
        """Whether events follow. Raises what no retry can mend."""
        if response.status_code == 200:
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                raise unexpected(response)
            return True
        if response.status_code == 204:
            self._at_end, self._failures, self._pause_s = True, 0, 0.0
        elif is_retryable(response):
            self._retry(error_of(response), retry_after_s(response))
        else:
            raise error_of(response)
        return False

    def feed(self, sse: httpx2.ServerSentEvent) -> StreamEvent | None:
        """The event, when it is new; it counts as read from here on. Raises Gap."""
        event = decoded(sse)
        if event.seq <= self.position:
            return None
        if event.seq != self.position + 1:
            raise Gap(f"event {event.seq} of batch {self.batch} came after event {self.position}")
        self.position, self._failures, self._pause_s = event.seq, 0, 0.0
        return event

    def lost(self, outcome: httpx2.TransportError | Gap | None) -> None:
        """Take note that the connection ended; a clean end is asked about at once: it may have been the last."""
        if isinstance(outcome, httpx2.TransportError):
            self._retry(error_of(outcome), None)
        elif outcome is None and self._failures == 0:
            self._failures, self._pause_s = 1, 0.0
        else:
            self._retry(ConnectionFailed(f"the stream ended too early ({outcome or 'closed'})."), None)

    def _retry(self, error: APIError | ConnectionFailed, asked_s: float | None) -> None:
        self._failures += 1
        pause_s = PATIENT.pause_s(self._failures, asked_s)
        if pause_s is None:
            raise StreamLost(
                f"lost touch with the jobs of this map (batch {self.batch}): {error} They go on, and are paid once: "
                "run the same map again to come back to them."
            ) from error
        self._pause_s = pause_s
