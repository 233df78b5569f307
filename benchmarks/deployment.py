"""The processes that are measured: a real redis-server (AOF, fsync always), simulator, API, workers; on free ports."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
from tests.stack import API, WORKER, Process, start, url_printed_by
from tests.waiting import wait_until

from onceq.wire import SCOPES
from onceq_service.embedded.ping import ask_redis
from onceq_service.embedded.redis_server import EmbeddedRedis
from onceq_service.store import open_store

QUEUE: Final = "bench"
BARE: Final = "from benchmarks.bare import run; run()"
MODEL: Final = "gpt-4o-mini"
COMPLETIONS: Final = "/openai/v1/chat/completions"
"""Of the simulator."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to connect."""

    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Address:
        """The address of an http URL."""
        parts = urlsplit(url)
        return cls(parts.hostname or "", parts.port or 80)


@dataclass(frozen=True, slots=True)
class Deployment:
    """What runs; `roles` are the pids whose CPU is counted, `completions` the URL at which the provider answers."""

    url: str
    completions: str
    api_key: str
    roles: dict[str, int]
    simulator_pid: int
    redis_url: str
    provider_key: str = "simulated"

    @property
    def api(self) -> Address:
        """The API's address."""
        return Address.of(self.url)

    @property
    def provider(self) -> Address:
        """The provider's address."""
        return Address.of(self.completions)

    def stats(self) -> dict[str, Any]:
        """GET /v1/stats."""
        answer = httpx2.get(f"{self.url}/v1/stats", headers={"Authorization": f"Bearer {self.api_key}"}, timeout=30)
        return answer.raise_for_status().json()

    def ended(self) -> int:
        """Jobs that have ended, well or not; all of them are answered by the simulator."""
        sums = self.stats()["last_24h_simulated"]
        return sum(sums[state] for state in ("succeeded", "failed", "cancelled", "expired"))


def wait_for_idle(deployment: Deployment, jobs: int) -> dict[str, Any]:
    """What became of `jobs` jobs, when all have ended: the sums of the last day."""

    def ended() -> dict[str, Any] | None:
        stats = deployment.stats()
        return stats["last_24h_simulated"] if not stats["depth"]["queued"] and not stats["depth"]["running"] else None

    return wait_until(ended, f"{jobs} jobs to end", timeout_s=300)


@contextmanager
def running(
    *,
    workers: int,
    api_processes: int = 1,
    worker_concurrency: int = 32,
    redis_gib: int = 2,
    aof: bool = True,
    settings: Mapping[str, str] | None = None,
) -> Generator[Deployment]:
    """Everything of onceq; `workers` 0 leaves the jobs in the queue, `settings` are more ONCEQ_* variables.

    Ends what it started.
    """
    with redis_of(redis_gib, aof=aof) as (redis, folder), ExitStack() as stack:
        simulator = simulator_of(stack, folder)
        env = {
            "ONCEQ_REDIS_URL": redis.url, "ONCEQ_QUEUE": QUEUE, "ONCEQ_PORT": "0", "ONCEQ_LOG_LEVEL": "warning",
            "ONCEQ_SIMULATOR_URL": url_printed_by(simulator), "ONCEQ_API_PROCESSES": str(api_processes),
            "ONCEQ_WORKER_PROCESSES": str(max(1, workers)), "ONCEQ_WORKER_CONCURRENCY": str(worker_concurrency),
            **(settings or {}),
        }  # fmt: skip
        api = start([sys.executable, "-c", API], env, folder / "api.log")
        stack.callback(api.stop)
        roles = {"api": api.popen.pid, "redis": redis.pid or 0}
        if workers:
            worker = start([sys.executable, "-c", WORKER], env, folder / "worker.log")
            stack.callback(worker.stop)
            roles["worker"] = worker.popen.pid
        key = asyncio.run(_new_key(redis.url))
        provider = url_printed_by(simulator) + COMPLETIONS
        deployment = Deployment(url_printed_by(api), provider, key, roles, simulator.popen.pid, redis.url)
        wait_until(lambda: len(deployment.stats()["workers"]) == workers, "the workers to report")
        yield deployment


@contextmanager
def bare() -> Generator[tuple[Address, dict[str, int]]]:
    """The reference for posts: uvicorn and one SET on an equal Redis."""
    with redis_of() as (redis, folder), ExitStack() as stack:
        app = start([sys.executable, "-c", BARE], {"BENCH_REDIS_URL": redis.url}, folder / "bare.log")
        stack.callback(app.stop)
        yield Address.of(url_printed_by(app)), {"api": app.popen.pid, "redis": redis.pid or 0}


@contextmanager
def redis_of(gib: int = 2, *, aof: bool = True) -> Generator[tuple[EmbeddedRedis, Path]]:
    """Redis as onceq starts it, and a folder for logs; without `aof` nothing is written to disk."""
    with (
        tempfile.TemporaryDirectory(prefix="oq-", ignore_cleanup_errors=True) as name,
        EmbeddedRedis(Path(name), maxmemory=gib * 1024**3) as redis,
    ):
        if not aof:
            assert (ask_redis(redis.socket, "CONFIG SET appendonly no") or "").startswith("+OK")
        yield redis, Path(name)


def simulator_of(stack: ExitStack, folder: Path) -> Process:
    """The provider; ends with the stack."""
    command = [sys.executable, "-m", "onceq_service.simulator", "--port", "0"]
    simulator = start(command, {}, folder / "simulator.log")
    stack.callback(simulator.stop)
    return simulator


async def _new_key(redis_url: str) -> str:
    async with open_store(redis_url, QUEUE) as store:
        return (await store.api_keys.create(tenant="bench", name="bench", scopes=SCOPES))[1]
