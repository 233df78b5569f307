"""What the API does with jobs: admit, read, list, cancel. Workers use engine.py."""

from __future__ import annotations

import asyncio
import time
from typing import Literal, cast

from onceq.wire import Durability, Job, JobPage, SubmittedJob, Waiting
from onceq_service.store import scripts
from onceq_service.store._admissions import Admissions, Tell
from onceq_service.store._pipe import Pipe
from onceq_service.store.admission import Admission, AdmissionTemplate, AdmissionValues, Admitted
from onceq_service.store.events import text_in_log
from onceq_service.store.find import Filter, find, read_cursor, write_cursor
from onceq_service.store.keys import Keys
from onceq_service.store.retention import Retention
from onceq_service.store.views import SHOWN, Fields, at, fields_of, job_view, submitted

CancelOutcome = Literal["unknown", "cancelled", "requested", "ended"]

UNKNOWN_MS = 10**15
"""A lane is put aside until this when nobody can know the time, as `closed_until` in lua/_lanes.lua says it."""


class Jobs:
    """The jobs of a queue, as the API sees them."""

    def __init__(self, pipe: Pipe, keys: Keys, retention: Retention, admissions: Admissions | None = None) -> None:
        self._pipe, self._keys, self._retention = pipe, keys, retention
        self._admissions = admissions or Admissions(pipe, keys.root, retention)
        self.durability: Durability = "strict"
        """What a 202 promises; set by whoever inspects the server (Store.inspect)."""

    async def admit(self, a: Admission, *, read_at: float | None = None, accept_ms: int = 0) -> Admitted:
        """Creates, joins or replays, in one step.

        Raises KeyReused, CostTooHigh, BudgetRefused, JobNotFound, StoreError and its kinds.

        `read_at`: when the request had been read (time.monotonic); the job's life begins there. `accept_ms`: how long
        before now that was, for a caller whose clock is not this machine's.
        """
        if read_at is not None:
            accept_ms = max(0, round((time.monotonic() - read_at) * 1000))
        return await self._admissions.put(a, accept_ms)

    def template(self, a: Admission) -> AdmissionTemplate:
        """For requests like this one."""
        return self._admissions.template(a)

    def admit_from_template(self, template: AdmissionTemplate, values: AdmissionValues, tell: Tell) -> None:
        """Admits one of a pattern that was read in this turn of the event loop, for a caller that waits for
        nothing: `tell` is called with Admitted or with what `admit` raises.
        """
        self._admissions.put_from_template(template, values, 0, tell)

    async def submitted(self, admitted: Admitted) -> SubmittedJob:
        """The 202's body. A job that was there before is shown with the text that it has so far."""
        job = await self.view(admitted.id, admitted.fields)
        return submitted(job, admitted.disposition)

    async def get(self, job_id: str, tenant: str) -> Job | None:
        """The job, None when this tenant has none of that id."""
        fields = await self.shown(job_id, tenant)
        return None if fields is None else await self.view(job_id, fields)

    async def shown(self, job_id: str, tenant: str) -> Fields | None:
        """Those fields of the job's hash that `view` needs, None when this tenant has no job of that id."""
        values = await self._pipe.command("HMGET", self._keys("job", job_id), *SHOWN)
        named = zip(SHOWN, cast("list[bytes | None]", values), strict=True)
        fields = {name: value for name, value in named if value is not None}
        return fields if fields.get("tenant") == tenant.encode() else None

    async def fields(self, job_id: str, tenant: str) -> Fields | None:
        """The job's whole hash, with its request and ledger rows, None when this tenant has none of that id."""
        fields = fields_of(cast("list[bytes]", await self._pipe.command("HGETALL", self._keys("job", job_id))))
        return fields if fields.get("tenant") == tenant.encode() else None

    async def cancel(self, job_id: str, tenant: str) -> CancelOutcome:
        """Cancels a waiting job at once; `requested` where a worker has to end it, since its call runs or goes on."""
        argv = [job_id, tenant, self._retention.result_s, self._retention.events_s]
        reply = cast("bytes", await self._pipe.script(scripts.CANCEL, self._keys.root, argv))
        return cast("CancelOutcome", reply.decode())

    async def watch(self, job_id: str) -> bool:
        """Says that somebody follows the job now: `on_disconnect: cancel` waits for its grace from here.

        False where it has none, or none any more.
        """
        return await self._pipe.script(scripts.WATCH, self._keys.root, [job_id]) != b"0"

    async def stuck(self, job_id: str, blocked_s: float) -> None:
        """Says how long a reader of the job has kept its stream waiting; a job that has ended takes no notice."""
        await self._pipe.script(scripts.STUCK, self._keys.root, [job_id, round(blocked_s * 1000)])

    async def list(self, tenant: str, where: Filter, *, cursor: str | None, limit: int) -> JobPage:
        """Newest first; raises ValueError for a cursor that no page gave. Bounded work: see find.py."""
        found = await find(self._pipe, self._keys, tenant, where, read_cursor(cursor), limit)
        jobs = await asyncio.gather(*(self.get(job_id, tenant) for job_id in found.ids))
        return JobPage(
            jobs=[job for job in jobs if job is not None],
            next_cursor=write_cursor(found.position) if found.more else None,
            looked_at=found.looked,
            looked_back_to=at(found.position[0]) if found.position else None,
        )

    async def view(self, job_id: str, fields: Fields) -> Job:
        """The job that these fields are of, with the text that it has so far."""
        partial = None
        if "output" not in fields and "first_ms" in fields:
            partial = await text_in_log(self._pipe, self._keys, job_id)
        job = job_view(job_id, fields, self.durability, partial)
        if job.status != "queued" or job.waiting is not None or job.cancel_requested:
            return job
        return job.model_copy(update={"waiting": await self._held_by_lane(fields)})

    async def _held_by_lane(self, fields: Fields) -> Waiting | None:
        lane, band = fields["lane"].decode(), fields["band"].decode()
        paused, brake_ms, reason = cast("list[bytes | None]", await self._pipe.command(
            "HMGET", self._keys("lane", lane), "paused", "brake_ms", "reason"
        ))  # fmt: skip
        blocked = cast("bytes | None", await self._pipe.command("ZSCORE", self._keys("blocked"), f"{band}|{lane}"))
        if paused is None and await self._pipe.command("HEXISTS", self._keys("turns"), f"paused:{band}"):
            return Waiting(reason="band_paused")
        return lane_waiting(paused, brake_ms, reason, blocked)


def lane_waiting(
    paused: bytes | None, brake_ms: bytes | None, reason: bytes | None, blocked: bytes | None
) -> Waiting | None:
    """Why a lane starts nothing now, from its hash and the time (ms) for which it is put aside; None when it may."""
    if paused is not None:
        return Waiting(reason="lane_paused")
    if brake_ms is not None and int(brake_ms) > time.time() * 1000:
        return Waiting(reason=(reason or b"lane_braked").decode(), until=at(int(brake_ms)))
    if blocked is None:
        return None
    till = int(float(blocked))
    return Waiting(reason="lane_full", until=at(till) if till < UNKNOWN_MS else None)
