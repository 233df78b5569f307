"""The real scripts on a real Redis, and what is looked at after each step of test_scheduling_model.py."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from itertools import product
from typing import Any, ClassVar
from uuid import uuid4

from hypothesis.stateful import invariant

from onceq_service.store import Admission, Jobs, Keys, Lanes, Retention, lifetimes
from onceq_service.store._pipe import connect
from onceq_service.store.engine import Claim, Engine
from tests.faults.clock import ClockedPipe
from tests.faults.scheduling_model import BANDS, LANES, WEIGHTS, Job, Queue
from tests.faults.walk import Walk
from tests.service.store.driver import admission

SERVES = {"w0": ["openai"], "w1": ["anthropic"], "w2": ["openai", "anthropic"], "idle": ["openai", "anthropic"]}
FOR_DAYS = 500_000
"""Seconds: longer than an example lasts."""
PLACES = ("due", "suspects", "stops", "leases")
WAIT = [("wait", band, lane, tenant) for band in BANDS for lane in LANES for tenant in WEIGHTS]
EMPTY_AT_LAST = [
    *WAIT, *((name,) for name in (*PLACES, "blocked", "deadlines")),
    *(("fair", band, lane) for band in BANDS for lane in LANES),
    *((name, band) for name in ("ready", "queued") for band in BANDS), *(("movable", lane) for lane in LANES),
]  # fmt: skip


class Watched(Walk):
    """A queue, the model of it, and the comparison of both."""

    redis_url: ClassVar[str]
    seen: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.queue = Queue()
        self.held: dict[str, tuple[Claim, str]] = {}
        self.whole = True
        self.run(self._open())

    async def _open(self) -> None:
        self.keys, retention = Keys(f"s{uuid4().hex[:12]}"), Retention(lease_s=FOR_DAYS)
        self.pipe = ClockedPipe(connect(self.redis_url, connections=2), self.keys)
        self.jobs, self.lanes = Jobs(self.pipe, self.keys, retention), Lanes(self.pipe, self.keys)
        self.engines = {w: Engine(self.pipe, self.keys, retention, self.pipe) for w in SERVES}
        self.engine = self.engines["idle"]
        await self.pipe.set_clock(self.queue.now)
        await self.lanes.set_weights({tenant: float(weight) for tenant, weight in WEIGHTS.items()})

    def ask(self, *command: Any) -> Any:
        """A plain command of Redis."""
        return self.ask_all([command])[0]

    def ask_all(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Commands that are sent together."""

        async def do() -> list[Any]:
            return await asyncio.gather(*(self.pipe.command(*command) for command in commands))

        return self.runner.run(do())

    def look(self) -> None:
        """Tells the model which lane each job is in now, at the moment in which it may have moved."""
        jobs = [job for job in self.queue.in_state("queued") if job.chain]
        found = self.ask_all([("HMGET", self.keys("job", job.id), "lane", "chain") for job in jobs])
        for job, (lane, chain) in zip(jobs, found, strict=True):
            if lane.decode() != job.lane:
                self.seen["moved"] += 1
                self.queue.moved(job, lane.decode(), chain.decode().split())

    @invariant()
    def every_job_is_in_one_place_and_every_count_is_right(self) -> None:
        self.look()
        jobs = self.queue.jobs.values()
        places = {"ended": [job.id for job in jobs if job.place == "ended"]}
        names = [*WAIT, *((place,) for place in PLACES)]
        for name, ids in zip(names, self.members(names), strict=True):
            places[" ".join(name)] = [job_id.decode() for job_id in ids]
        found = sorted((job_id, place) for place, ids in places.items() for job_id in ids)
        assert found == sorted((job.id, job.place) for job in jobs)
        running = self.ask_all([("HGET", self.keys("lane", name), "running") for name in LANES])
        lanes = self.queue.lanes.values()
        assert [int(n or 0) for n in running] == [lane.running if lane.limits.packed() else 0 for lane in lanes]
        self.counts_are_right()
        self.whole = True

    def members(self, names: Sequence[Sequence[str]]) -> list[list[bytes]]:
        return self.ask_all([("ZRANGE", self.keys(*name), 0, -1) for name in names])

    def counts_are_right(self) -> None:
        live = [job for job in self.queue.jobs.values() if job.state != "ended"]
        queued = [job for job in live if job.state == "queued"]
        wanted: dict[tuple[str, ...], list[str]] = {}
        for band in BANDS:
            wanted["queued", band] = [job.id for job in queued if job.band == band]
        for tenant, state in product(WEIGHTS, ("queued", "running")):
            wanted["index", tenant, state] = [job.id for job in live if (job.state, job.tenant) == (state, tenant)]
        for (name, ids), found in zip(wanted.items(), self.members(list(wanted)), strict=True):
            assert sorted(job_id.decode() for job_id in found) == sorted(ids), name

    async def _close(self) -> None:
        await self.pipe.forget_clock()
        overdue = await lifetimes.overdue(self.pipe, self.keys) if self.whole else []
        await self.pipe.close()
        assert not overdue, f"keys without a lifetime: {overdue}"

    def nothing_is_left(self) -> None:
        """Of a queue whose jobs have all ended."""
        left = [name for name, ids in zip(EMPTY_AT_LAST, self.members(EMPTY_AT_LAST), strict=True) if ids]
        assert not left, f"not empty at the end: {left}"


def posted(job: Job) -> Admission:
    limits = {lane: of.packed() for lane, of in LANES.items()}
    return admission(
        id=job.id, tenant=job.tenant, band=job.band, model=job.lane, lane=job.lane, provider=job.lane.split("/")[0],
        limits=limits[job.lane], chain=[(name, limits[name]) for name in job.chain], max_calls=99,
        deadline_s=FOR_DAYS, not_before_ms=job.not_before or None, on_crash="resume" if job.background else "retry",
    )  # fmt: skip
