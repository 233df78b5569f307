"""What waits must cost nothing: Redis's CPU an admission, a claim and a page of a list, and memory, by waiting jobs.

The store is driven without API and worker, so that all CPU that is counted is Redis's for the one thing. Nothing is
written to the disk: a backlog of a million would be 4 GB of it, and fsync would be most of what is counted.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from redis.asyncio import Redis
from tests.service.store.driver import admission, claim_one, dispatch, success

from benchmarks.cpu import Meter
from benchmarks.figures import Figures, machine
from onceq_service.embedded.ping import ask_redis
from onceq_service.embedded.redis_server import EmbeddedRedis
from onceq_service.store import Admission, Filter, Store, open_store

PROMPT: Final = "Summarise the following report in three sentences please, number %d."
TOGETHER: Final = 32
"""Admissions of one moment, as under load."""
MEASURED: Final = 4_000
"""Admissions, and half as many claims, that are measured with the backlog waiting."""
FINISHED: Final = 500


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many jobs wait, of how many tenants (one lane each job's tenant may use), in how many lanes."""

    jobs: int
    tenants: int = 1
    lanes: int = 1

    def admission(self, n: int) -> Admission:
        """The n-th job: a prompt of 70 bytes with a fingerprint."""
        model = f"openai/m{n % self.lanes}"
        return admission(
            PROMPT % n, tenant=f"t{n % self.tenants}", model=model, lane=model, fp=f"f{n}", in_est=40, out_est=500
        )


def waiting(backlog: Backlog, measured: int = MEASURED) -> Figures:
    """One run on a Redis of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="oq-bench-", ignore_cleanup_errors=True) as name,
        EmbeddedRedis(Path(name), maxmemory=8 * 1024**3) as redis,
    ):
        assert (ask_redis(redis.socket, "CONFIG SET appendonly no") or "").startswith("+OK")
        return asyncio.run(_measured(redis, backlog, measured))


async def _measured(redis: EmbeddedRedis, backlog: Backlog, measured: int) -> Figures:
    meter = Meter({"redis": redis.pid or 0})

    async def cost_us(times: int, work: Callable[[], Awaitable[object]]) -> float:
        before = meter.spent().cpu_s["redis"]
        await work()
        return (meter.spent().cpu_s["redis"] - before) / times * 1e6

    async with open_store(redis.url, "bench") as store:
        empty, _ = await store.memory()
        await admit(store, (backlog.admission(n) for n in range(backlog.jobs)))
        full, _ = await store.memory()
        fresh = [backlog.admission(n) for n in range(backlog.jobs, backlog.jobs + measured)]
        figures = {
            "redis_us_per_admission": await cost_us(measured, lambda: admit(store, fresh)),
            "redis_us_per_claim": await cost_us(measured // 2, lambda: claim(store, measured // 2)),
            "redis_us_per_page_of_50": await cost_us(measured // 10, lambda: pages(store, measured // 10)),
            "bytes_per_waiting_job": (full - empty) / backlog.jobs,
            "bytes_per_bare_value": await bare_bytes(store, redis.url, measured),
            "bytes_per_finished_job": await finished_bytes(store, measured) if backlog.jobs == 1 else 0.0,
        }
    return {**figures, **machine(meter.spent())}


async def admit(store: Store, jobs: Iterable[Admission]) -> None:
    """Admits them, as many together as posts of a busy moment are."""
    some: list[Admission] = []
    for job in jobs:
        some.append(job)
        if len(some) == TOGETHER:
            await asyncio.gather(*(store.jobs.admit(one) for one in some))
            some = []
    await asyncio.gather(*(store.jobs.admit(one) for one in some))


async def claim(store: Store, jobs: int) -> None:
    """Claims so many, one at a time: the dearest way."""
    for _ in range(jobs):
        await store.engine.claim("bench", 1, ["openai"])


async def pages(store: Store, times: int) -> None:
    """Reads the newest jobs of a tenant again and again."""
    for _ in range(times):
        await store.jobs.list("t0", Filter(), cursor=None, limit=50)


async def bare_bytes(store: Store, url: str, jobs: int) -> float:
    """The least that a job could take: its request as the value of a key of its own, with a lifetime."""
    redis = Redis.from_url(url)  # pyright: ignore[reportUnknownMemberType] - untyped
    await redis.set("bare", 1, ex=3_600)  # its connection is there before and after: that is 20 kB and more
    before, _ = await store.memory()
    async with redis.pipeline(transaction=False) as pipe:
        for n in range(jobs):
            job = Backlog(1).admission(n)
            pipe.set(job.id, job.request, ex=3_600)
        await pipe.execute()
    after, _ = await store.memory()
    await redis.aclose()
    return (after - before) / jobs


async def finished_bytes(store: Store, waiting: int) -> float:
    """Bytes that a job leaves when it has ended, with its answer of 2 kB and the log of one frame, until they lapse."""
    await claim(store, waiting)  # whatever waited runs: the next to be claimed is ours
    before, _ = await store.memory()
    for n in range(FINISHED):
        await store.jobs.admit(admission(PROMPT % n, fp=f"e{n}"))
        held = await claim_one(store)
        await dispatch(store, held)
        await store.engine.finish(held, success(text="x" * 2_000))
    after, _ = await store.memory()
    return (after - before) / FINISHED
