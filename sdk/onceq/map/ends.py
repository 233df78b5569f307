"""The ends of a map's jobs, read from the one stream of its batch. No I/O."""

from __future__ import annotations

import httpx2

from onceq._follow import Follower, Gap, StreamEvent
from onceq.errors import APIError, ConnectionFailed


class Ends(Follower[StreamEvent]):
    """Follows a batch over any number of connections.

    It is `done` when the service says that no job of the batch is left; `again` goes on behind it after another post.
    """

    def __init__(self, batch: str) -> None:
        super().__init__(f"/v1/events?batch={batch}")
        self.batch = batch
        self._position = 0

    @property
    def position(self) -> int:
        """The number of the last end that was read."""
        return self._position

    def again(self) -> None:
        """More jobs have come into the batch."""
        self._at_end = False

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
            f"lost touch with the jobs of this map (batch {self.batch}): {error} They go on, and are paid once: "
            "run the same map again to come back to them."
        )
