"""The ends of a batch's jobs, read from the one stream of the batch. No I/O."""

from __future__ import annotations

import httpx2

from onceq._follow import Follower, Gap, StreamEvent
from onceq._http import PATIENT, Backoff
from onceq.errors import APIError, ConnectionFailed


class BatchEnds(Follower[StreamEvent]):
    """Follows a batch over any number of connections.

    It is `done` when the service says that no job of the batch is left.
    """

    def __init__(self, batch: str, after: int = 0, backoff: Backoff = PATIENT) -> None:
        super().__init__(f"/v1/events?batch={batch}", backoff)
        self.batch = batch
        self._position = after

    @property
    def position(self) -> int:
        """The number of the last end that was read."""
        return self._position

    def lost(self, outcome: httpx2.TransportError | Gap | None) -> None:
        """Take note that the connection ended; a clean end is asked about at once: it may have been the last."""
        if outcome is None and self._failures == 0:
            self._failures = 1
        else:
            super().lost(outcome)

    def _taken(self, event: StreamEvent) -> StreamEvent | None:
        if event.seq <= self._position:
            return None
        if event.seq != self._position + 1:
            raise Gap(f"event {event.seq} of batch {self.batch} came after event {self._position}")
        self._position = event.seq
        return event

    def _lost_touch(self, error: APIError | ConnectionFailed) -> str:
        return (
            f"lost touch with batch {self.batch} after event {self._position}: {error} "
            f"Its jobs go on; client.follow_batch({self.batch!r}, after={self._position}) carries on from here."
        )
