"""Who follows what through this process: keeps their connections alive, cuts who is stuck, tells jobs of who is slow.

One look a moment at all of them: a timer for each would be the dearest part of a stream that waits.
"""

from __future__ import annotations

import time
from collections.abc import Set
from typing import Final, Protocol

from onceq_service.store.jobs import Jobs

STUCK_S: Final = 1.0
"""A reader that has kept its stream waiting for so much longer than its job knows is told of."""


class Reader(Protocol):
    """One stream."""

    job_id: str | None
    """None: of many jobs, which none of them has to know."""
    key_id: str
    """The id of the API key that it was opened with."""

    def blocked_s(self) -> float:
        """How long it has waited in all for its reader to take something."""
        ...

    def tend(self, now: float) -> None:
        """Keeps it alive, or cuts it; `now` is monotonic."""
        ...

    def cut(self) -> None:
        """Ends it at once."""
        ...


class Readers:
    """All of this process."""

    def __init__(self) -> None:
        self._all: dict[Reader, float] = {}
        """With how long its job knows that it was blocked."""

    def __len__(self) -> int:
        return len(self._all)

    def add(self, reader: Reader) -> None:
        """A stream to look after from now on."""
        self._all[reader] = 0.0

    def remove(self, reader: Reader) -> None:
        """A stream has ended."""
        del self._all[reader]

    def tend(self) -> None:
        """One look at each."""
        now = time.monotonic()
        for reader in list(self._all):
            reader.tend(now)

    def dismiss(self, key_ids: Set[str]) -> None:
        """Ends the streams of API keys that may read no longer."""
        for reader in [reader for reader in self._all if reader.key_id in key_ids]:
            reader.cut()

    async def report(self, jobs: Jobs) -> None:
        """Tells the jobs of stuck readers; raises StoreError."""
        for reader, told_s in list(self._all.items()):
            blocked_s = reader.blocked_s()
            if reader.job_id is not None and blocked_s - told_s >= STUCK_S:
                if reader in self._all:
                    self._all[reader] = blocked_s
                await jobs.stuck(reader.job_id, blocked_s)
