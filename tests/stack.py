"""Starts the real processes that tests talk to, on free ports of loopback, and ends just those."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import httpx2

from onceq.wire import SCOPES, Scope
from onceq_service.embedded.redis_server import EmbeddedRedis
from onceq_service.store import open_store
from tests.fork_server import ForkedProcess, ForkServer
from tests.waiting import wait_until

API = (
    "from onceq_service.settings import load_settings; from onceq_service.api.server.serve import run; "
    "run(load_settings())"
)
WORKER = (
    "from onceq_service.settings import load_settings; from onceq_service.worker.main import run; run(load_settings())"
)
FORKED = (API, WORKER, "onceq_service.simulator")
KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE")


@dataclass
class Process:
    """A child in a group of its own, its output in a file."""

    popen: subprocess.Popen[bytes] | ForkedProcess
    log: Path

    def text(self) -> str:
        """What it has printed."""
        return self.log.read_text("utf-8", "replace")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Ends it, and its children with it; returns its exit code."""
        if self.popen.poll() is None:
            os.killpg(self.popen.pid, how)
        try:
            return self.popen.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.popen.pid, signal.SIGKILL)
            self.popen.wait(5)
            raise


@cache
def fork_server() -> ForkServer:
    """The one that API, workers and simulators of this run's stacks come from."""
    return ForkServer(clean_environment() | {"PYTHONWARNINGS": "error"})


def clean_environment() -> dict[str, str]:
    """Ours without provider keys and settings."""
    return {k: v for k, v in os.environ.items() if k not in KEYS and not k.startswith("ONCEQ_")}


def start(args: list[str], env: dict[str, str], log: Path) -> Process:
    """Starts a child with no provider key of ours in its environment; what the fork server knows is forked from it."""
    if args[0] == sys.executable and args[2] in FORKED and not env.get("LD_PRELOAD"):
        return Process(fork_server().start(args[1:], clean_environment() | env, log), log)
    clean = clean_environment()
    out: IO[bytes] = log.open("ab")
    with out:
        popen = subprocess.Popen(
            args,
            env=clean | env,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Process(popen, log)


def url_printed_by(process: Process) -> str:
    """The `{"url": ...}` line that a server prints when it listens."""

    def find() -> str | None:
        assert process.popen.poll() is None, f"it ended at once:\n{process.text()}"
        for line in process.text().splitlines():
            if line.startswith("{") and '"url"' in line:
                return str(json.loads(line)["url"])
        return None

    return wait_until(find, f"a url from {process.log.name}", timeout_s=60)


@dataclass
class Stack:
    """Where the running processes are; `api_keys` by tenant are made as asked for."""

    redis: EmbeddedRedis
    queue: str
    url: str
    simulator: str
    folder: Path
    api: Process
    worker: Process
    env: dict[str, str]
    _replaced: list[Process] = field(default_factory=list[Process])
    _keys: dict[tuple[str, tuple[str, ...]], str] = field(default_factory=dict[tuple[str, tuple[str, ...]], str])

    @property
    def api_key(self) -> str:
        """A key with every scope of tenant `default`."""
        return self.key()

    def key(self, tenant: str = "default", *scopes: Scope) -> str:
        """A key of a tenant."""
        wanted = scopes or SCOPES
        known = self._keys.get((tenant, wanted))
        if known is None:
            known = self._keys[tenant, wanted] = asyncio.run(self._create(tenant, wanted))
        return known

    async def _create(self, tenant: str, scopes: tuple[Scope, ...]) -> str:
        async with open_store(self.redis.url, self.queue) as store:
            return (await store.api_keys.create(tenant=tenant, name="test", scopes=scopes))[1]

    def restart_api(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Ends the API and starts another; `url` is the new one's."""
        self.api.stop(how)
        self.api = start([sys.executable, "-c", API], self.env, self.folder / f"api-{uuid4().hex}.log")
        self._replaced.append(self.api)
        self.url = url_printed_by(self.api)

    def start_worker(self) -> Process:
        """Starts another group of workers and returns the one before, which goes on."""
        before = self.worker
        self.worker = start([sys.executable, "-c", WORKER], self.env, self.folder / f"worker-{uuid4().hex}.log")
        self._replaced.append(self.worker)
        return before

    def replaced(self) -> list[Process]:
        """The processes that were started later."""
        return self._replaced

    def said(self) -> str:
        """The ends of what API and workers have printed, each below its file's name."""
        logs = sorted(self.folder.glob("*.log"))
        return "\n".join(f"-- {log.name}\n{log.read_text('utf-8', 'replace')[-3_000:]}" for log in logs)

    def meter(self, job_id: str) -> list[dict[str, Any]]:
        """The simulator's bill for a job: one row a call."""
        return httpx2.get(f"{self.simulator}/meter", params={"job": job_id, "text": "1"}).json()["calls"]


RUNNING: list[Stack] = []
"""Those of this process: a failing test's report shows what they have said."""


@contextmanager
def running_redis(maxmemory: int = 256 * 1024**2) -> Generator[EmbeddedRedis]:
    """A real redis-server with a folder and a socket of its own; `maxmemory` in bytes."""
    folder = tempfile.TemporaryDirectory(prefix="oq-", ignore_cleanup_errors=True)
    with folder as name, EmbeddedRedis(Path(name), maxmemory=maxmemory) as server:
        yield server


@contextmanager
def running_stack(redis: EmbeddedRedis, *, workers: int = 2, **settings: str) -> Generator[Stack]:
    """Simulator, API and workers; `settings` are ONCEQ_* variables without their prefix."""
    with tempfile.TemporaryDirectory(prefix="oq-stack-") as name, ExitStack() as stack:
        folder, queue = Path(name), f"s{uuid4().hex[:10]}"
        simulator = start(
            [sys.executable, "-m", "onceq_service.simulator", "--port", "0"], {}, folder / "simulator.log"
        )
        stack.callback(simulator.stop)
        simulator_url = url_printed_by(simulator)
        env = {
            "ONCEQ_REDIS_URL": redis.url, "ONCEQ_QUEUE": queue, "ONCEQ_PORT": "0",
            "ONCEQ_SIMULATOR_URL": simulator_url, "ONCEQ_WORKER_PROCESSES": str(workers), "PYTHONWARNINGS": "error",
        }  # fmt: skip
        env |= {f"ONCEQ_{k.upper()}": v for k, v in settings.items()}
        api = start([sys.executable, "-c", API], env, folder / "api.log")
        stack.callback(api.stop)
        worker = start([sys.executable, "-c", WORKER], env, folder / "worker.log")
        stack.callback(worker.stop)
        running = Stack(redis, queue, url_printed_by(api), simulator_url, folder, api, worker, env)
        stack.callback(lambda: [process.stop() for process in running.replaced()])
        RUNNING.append(running)
        stack.callback(RUNNING.remove, running)
        yield running
