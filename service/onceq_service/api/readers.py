"""Who follows a job through this process, and who of them does not read: their jobs are told, for the verdict."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from onceq_service.store.jobs import Jobs

STUCK_S: Final = 1.0
"""A reader that has kept its stream waiting for so much longer than its job knows is told of."""


@dataclass(slots=True, eq=False)
class Reader:
    """One stream; `blocked_s` is how long it has waited in all for its reader to take something."""

    job_id: str
    blocked_s: Callable[[], float]
    told_s: float = 0.0


class Readers:
    """All of this process."""

    def __init__(self) -> None:
        self._all: set[Reader] = set()

    @contextmanager
    def following(self, job_id: str, blocked_s: Callable[[], float]) -> Generator[None]:
        """Watches a stream while the block lasts."""
        reader = Reader(job_id, blocked_s)
        self._all.add(reader)
        try:
            yield
        finally:
            self._all.discard(reader)

    async def report(self, jobs: Jobs) -> None:
        """Tells the jobs of stuck readers; raises StoreError."""
        for reader in list(self._all):
            blocked_s = reader.blocked_s()
            if blocked_s - reader.told_s >= STUCK_S:
                reader.told_s = blocked_s
                await jobs.stuck(reader.job_id, blocked_s)
