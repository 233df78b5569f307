"""The ends of a map's jobs. No I/O."""

from __future__ import annotations

from onceq._batch import BatchEnds
from onceq.errors import APIError, ConnectionFailed


class Ends(BatchEnds):
    """The ends of a batch into which more jobs come while it is followed: `again` goes on behind its end."""

    def again(self) -> None:
        """More jobs have come into the batch."""
        self._at_end = False

    def _lost_touch(self, error: APIError | ConnectionFailed) -> str:
        return (
            f"lost touch with the jobs of this map (batch {self.batch}): {error} They go on, and are paid once: "
            "run the same map again to come back to them."
        )
