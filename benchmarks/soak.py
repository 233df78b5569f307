"""Whether anything grows: 10,000 jobs a minute for twenty minutes, with readers; results lapse after a minute.

Every process's memory, open files and threads are looked at, and Redis's memory, keys and connections. The ledger and
the sums of costs are kept for months, so they grow: what they take is counted apart, and is no growth of Redis's
process. The simulator's memory is shown but not judged: it is no part of onceq, and keeps its last 100,000 calls.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from redis.asyncio import Redis

from benchmarks import deployment as deployments
from benchmarks.cpu import Meter, descendants
from benchmarks.deployment import QUEUE, Deployment
from benchmarks.figures import Figures, Report, cpu_per, latency_ms, machine, told
from benchmarks.posting import Load, Posted, post
from benchmarks.streaming import stream

CONNECTIONS: Final = 64
CLIENTS: Final = 2
READERS: Final = 8
ANSWER: Final = "[[sim tokens=20 tps=60 ttft_ms=150]]"
KEPT_S: Final = 60
"""Results, logs and keys lapse after so long, behind a deadline of two minutes: four minutes until nothing grows."""
SETTINGS: Final = {f"ONCEQ_{name}_S": str(KEPT_S) for name in ("RESULT_TTL", "EVENTS_TTL", "IDEMPOTENCY_TTL")} | {
    "ONCEQ_DEDUPE_WINDOW_S": "30",
    "ONCEQ_DEADLINE_S": "120",
}
MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class SoakPlan:
    """How many jobs a minute, for how long, looked at how often; `settled_s` are not judged."""

    per_minute: int
    seconds: float
    every_s: float
    settled_s: float


WHOLE: Final = SoakPlan(10_000, seconds=1_200.0, every_s=15.0, settled_s=240.0)
BRIEF: Final = SoakPlan(600, seconds=4.0, every_s=1.0, settled_s=3_600.0)
"""Shows that it works; nothing has settled, so nothing is judged."""


@dataclass(frozen=True, slots=True)
class Limit:
    """How much the last third of the looks may lie above the first third: a share of it, or so many units."""

    share: float
    least: float
    unit: str

    def fault(self, name: str, values: Sequence[float]) -> str | None:
        """A sentence where it grew; the medians of thirds, so that one look at a bad moment decides nothing."""
        third = max(1, len(values) // 3)
        early, late = median(values[:third]), median(values[-third:])
        if late - early <= max(self.share * early, self.least):
            return None
        return f"{name} grew from {early:,.1f} to {late:,.1f}{self.unit}"


MEMORY: Final = Limit(0.05, 4.0, " MiB")
COUNT: Final = Limit(0.05, 8.0, "")
KEYS: Final = Limit(0.1, 200.0, "")
LEDGER: Final = "redis_ledger_and_sums_mib"
REDIS: Final = "redis_mib"
BESIDE: Final = "redis_beside_ledger_mib"
"""Redis's process without its ledger and sums."""
SHOWN: Final = {"at_s", LEDGER, REDIS, "simulator_mib"}
"""Figures of a look that are not judged."""


def soak(plan: SoakPlan) -> Report:
    """One run; the report's faults are what grew, and what became of jobs that is not as it must be."""
    with deployments.running(workers=2, worker_concurrency=128, settings=SETTINGS) as deployment:
        meter = Meter(deployment.roles)
        looks, posted, streamed = _looked_at(deployment, plan)
        spent, count = meter.spent(), len(posted.took_s) + streamed
        stats = deployment.stats()["last_24h_simulated"]
    figures = {
        "posted": count, "refused": posted.refused, "succeeded": stats["succeeded"], "calls": stats["calls"],
        **latency_ms(posted.took_s), **cpu_per(spent, count, 1e3, "ms_per_job"), **machine(spent),
    }  # fmt: skip
    judged = [look for look in looks if look["at_s"] >= plan.settled_s]
    return Report("soak", {"onceq": [figures]}, samples=looks, faults=[*grown(judged), *_unlike(figures)])


def _looked_at(deployment: Deployment, plan: SoakPlan) -> tuple[list[Figures], Posted, int]:
    """Posts and reads until the time is up and all have ended, and looks meanwhile."""
    over = threading.Event()
    load = Load(deployment.api, deployment.api_key, CONNECTIONS, plan.seconds, plan.per_minute / 60, ANSWER)
    with ThreadPoolExecutor(2) as pool:
        posting = pool.submit(post, load, CLIENTS)
        reading = pool.submit(_read, deployment, over)
        began, looks = time.monotonic(), list[Figures]()
        try:
            while not posting.done():
                time.sleep(plan.every_s)
                looks.append({"at_s": time.monotonic() - began, **look(deployment)})
                print(f"  soak {told(looks[-1])}", file=sys.stderr, flush=True)
        finally:
            over.set()
        posted, streamed = posting.result(), reading.result()
    deployments.wait_for_idle(deployment, len(posted.took_s))
    return looks[:-1] if len(looks) > 3 else looks, posted, streamed


def _read(deployment: Deployment, over: threading.Event) -> int:
    """Readers who come and go, so that connections and subscriptions do."""
    streamed = 0
    while not over.is_set():
        streamed += len(stream(deployment, "onceq", READERS, 2, ANSWER))
    return streamed


def look(deployment: Deployment) -> Figures:
    """What every process and Redis hold now."""
    figures: dict[str, float] = {}
    for role, pid in {**deployment.roles, "simulator": deployment.simulator_pid}.items():
        pids = [pid] if role == "redis" else [pid, *descendants(pid)]  # Redis's child rewrites its AOF, and goes
        figures[f"{role}_mib"] = sum(map(_rss_mib, pids))
        figures[f"{role}_files"] = sum(map(_files, pids))
        figures[f"{role}_threads"] = sum(map(_threads, pids))
    figures |= asyncio.run(_redis(deployment.redis_url))
    return {**figures, BESIDE: figures[REDIS] - figures[LEDGER]}


async def _redis(url: str) -> Figures:
    redis: Any = Redis.from_url(url)  # pyright: ignore[reportUnknownMemberType] - untyped
    try:
        info = await redis.info()
        kept = 0
        for kind in ("ledger", "roll", "rolls"):
            async for key in redis.scan_iter(match=f"onceq:{{{QUEUE}}}:{kind}:*", count=1_000):
                kept += await redis.memory_usage(key, samples=0) or 0
        return {
            "redis_data_mib": (info["used_memory_dataset"] - kept) / MIB, LEDGER: kept / MIB,
            "redis_keys": float(await redis.dbsize()), "redis_connections": float(info["connected_clients"]),
        }  # fmt: skip
    finally:
        await redis.aclose()


def grown(looks: Sequence[Figures]) -> list[str]:
    """Sentences about what is more at the end than at the beginning."""
    names = [name for name in looks[0] if name not in SHOWN] if looks else []
    found = [_limit_of(name).fault(name, [one[name] for one in looks]) for name in names]
    return [fault for fault in found if fault is not None]


def _limit_of(name: str) -> Limit:
    if name.endswith("_mib"):
        return MEMORY
    return KEYS if name == "redis_keys" else COUNT


def _unlike(figures: Figures) -> list[str]:
    jobs = figures["posted"]
    faults = [f"{name} is {figures[name]:,.0f}, posted were {jobs:,.0f}" for name in ("succeeded", "calls")
              if figures[name] != jobs]  # fmt: skip
    return faults + ([f"{figures['refused']:,.0f} posts had no 202"] if figures["refused"] else [])


def _status(pid: int, name: str) -> int:
    """A number of /proc/<pid>/status; 0 when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0)


def _rss_mib(pid: int) -> float:
    """Memory that is its own: pages shared with the process that it was forked from count there."""
    return _status(pid, "RssAnon") / 1024


def _threads(pid: int) -> float:
    return float(_status(pid, "Threads"))


def _files(pid: int) -> float:
    try:
        return float(len(list(Path(f"/proc/{pid}/fd").iterdir())))
    except OSError:
        return 0.0
