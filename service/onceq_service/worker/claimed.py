"""The jobs that this worker process holds now, and why one of them has to stop."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Literal

from onceq_service.store.engine import Claim

StopReason = Literal["cancel", "lost", "deadline", "timeout", "drain"]
"""`cancel`: its owner wants no more. `lost`: another worker has it, or it ended. `deadline`: the job's time is over.
`timeout`: this call's time is over. `drain`: this worker must go."""


@dataclass(slots=True, eq=False)
class ClaimedJob:
    """One claimed job; `call` is the child task that speaks to the provider, cancelled when the job has to stop."""

    claim: Claim
    reason: StopReason | None = None
    call: asyncio.Task[None] | None = field(default=None, repr=False)

    def stop(self, reason: StopReason) -> None:
        """Cancels the call; the first reason counts, but a lost job is lost whatever else was wanted."""
        if self.reason is None or reason == "lost":
            self.reason = reason
        if self.call is not None:
            self.call.cancel()


class ClaimedJobs:
    """All of them, by job id; used by the event loop's thread only, but for `pairs`."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._jobs: dict[str, ClaimedJob] = {}
        self._alone = 0
        self._idle: set[ClaimedJob] = set()

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def free(self) -> int:
        """How many more jobs fit; none beside one that has to run alone."""
        return 0 if self._alone else self.capacity - len(self._jobs)

    def add(self, claim: Claim) -> ClaimedJob:
        """Takes a claimed job in."""
        before = self._jobs.get(claim.id)
        if before is not None:
            before.stop("lost")  # no heartbeat asks for it any more
            self.drop(before)
        job = self._jobs[claim.id] = ClaimedJob(claim)
        self._alone += claim.alone
        return job

    def drop(self, job: ClaimedJob) -> None:
        """Lets a job go; a later claim of the same job stays."""
        if self._jobs.get(job.claim.id) is job:
            del self._jobs[job.claim.id]
            self._idle.discard(job)
            self._alone -= job.claim.alone

    def mark_idle(self, job: ClaimedJob) -> None:
        """Its call has left, and what it waits for is either watched (wakeups.py) or may wait."""
        if self._jobs.get(job.claim.id) is job:
            self._idle.add(job)

    def mark_active(self, job: ClaimedJob) -> None:
        """Something is to be done for the call now."""
        self._idle.discard(job)

    def all_idle(self) -> bool:
        """Whether nothing is to be done now for any job."""
        return len(self._idle) == len(self._jobs)

    def get(self, job_id: str) -> ClaimedJob | None:
        """The job, None when it is not held here."""
        return self._jobs.get(job_id)

    def stop(self, job_id: str, reason: StopReason) -> None:
        """Stops a job if it is held here."""
        job = self._jobs.get(job_id)
        if job is not None:
            job.stop(reason)

    def stop_all(self, reason: StopReason) -> None:
        """Stops every job."""
        for job in list(self._jobs.values()):
            job.stop(reason)

    def pairs(self) -> list[tuple[str, str]]:
        """(job id, fence) of all; one atomic copy, so that the heartbeat's thread may call it."""
        return [(h.claim.id, h.claim.fence) for h in list(self._jobs.values())]
