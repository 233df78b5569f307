"""The processes of a run: Redis, proxies before it, the simulator, two API replicas, two worker groups.

Each can be killed, frozen, ended and started again on its own place. The second worker group and the second replica
reach Redis through a proxy each. Everything is on loopback and is ended by its own process group.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import httpx2

from onceq.wire import SCOPES
from onceq_service.embedded.redis_server import EmbeddedRedis
from onceq_service.store import open_store
from tests.faults.pauses import Watch
from tests.faults.proxy import Proxy
from tests.stack import API, WORKER, Process, start, url_printed_by
from tests.waiting import until, wait_until

LEASE_S = 4.0
"""The shortest lease that still leaves room for a heartbeat after an outage too short to be seen as one (2 s)."""
CLOCK_S = 3.0
"""First byte, and between two bytes: long against a busy machine, short against a test."""
CONFIG = "".join(
    f'[providers.{name}]\nkind = "{name}"\nfirst_byte_s = {CLOCK_S}\nbetween_bytes_s = {CLOCK_S}\n'
    for name in ("openai", "anthropic", "bedrock")
)


class Node:
    """A process of ours that may be killed and comes back on the same place."""

    def __init__(self, name: str, code: str, env: Mapping[str, str], folder: Path) -> None:
        self.name, self._code, self.env, self._log = name, code, dict(env), folder / f"{name}.log"
        self.process: Process | None = None

    @property
    def running(self) -> Process:
        """The process; fails when it is not started."""
        assert self.process is not None, f"{self.name} is not running"
        return self.process

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.popen.poll() is None

    def start(self) -> None:
        """Starts it; does not wait."""
        assert not self.alive, f"{self.name} runs already"
        self._log.unlink(missing_ok=True)
        self.process = start([sys.executable, "-c", self._code], self.env, self._log)

    def send(self, how: signal.Signals) -> None:
        """Sends a signal to its whole group."""
        os.killpg(self.running.popen.pid, how)

    def kill(self) -> None:
        """The machine is gone: everything of it at once."""
        self.send(signal.SIGKILL)
        self.running.popen.wait(10)

    def end(self) -> None:
        """SIGTERM, as a deploy does; returns when it has ended."""
        os.kill(self.running.popen.pid, signal.SIGTERM)
        self.running.popen.wait(30)

    def said(self, lines: int = 40) -> str:
        """The last lines that it printed since its last start."""
        return "\n".join(self._log.read_text("utf-8", "replace").splitlines()[-lines:])

    def stop(self) -> None:
        """At the end of all: whatever state it is in."""
        if not self.alive:
            return
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        try:
            self.running.popen.wait(20)
        except subprocess.TimeoutExpired:
            os.kill(self.running.popen.pid, signal.SIGABRT)  # faulthandler says where it hangs
            self.running.popen.wait(10)
            raise AssertionError(f"{self.name} did not end on SIGTERM:\n{self.said(80)}") from None

    def owns(self, pid: int) -> bool:
        """Whether a process is of its group."""
        try:
            return os.getpgid(pid) == self.running.popen.pid
        except ProcessLookupError:
            return False


@dataclass
class Deployment:
    """A running deployment; `seed` decides every random choice of its runs."""

    redis: EmbeddedRedis
    proxy: Proxy
    api_proxy: Proxy
    simulator: str
    queue: str
    apis: list[Node]
    workers: list[Node]
    urls: list[str]
    folder: Path
    seed: int
    watch: Watch
    lease_s: float = LEASE_S
    _keys: dict[str, str] = field(default_factory=dict[str, str])

    def mend(self) -> None:
        """Whatever the last run broke is whole again, and all workers are known."""
        for proxy in (self.proxy, self.api_proxy):
            proxy.disarm()
            proxy.mend()
        if self.redis.gone():
            self.redis.revive()
        for node in (*self.apis, *self.workers):
            if node.alive:
                node.send(signal.SIGCONT)
            else:
                node.start()
        self.ready()

    def restart(self, node: Node, env: Mapping[str, str]) -> None:
        """Kills a process and starts it with more in its environment; returns when all is ready."""
        node.kill()
        node.env |= env
        node.start()
        self.ready()

    def ready(self) -> None:
        """Returns when every replica answers and every worker group is known to Redis."""
        for url in self.urls:
            wait_until(lambda url=url: _answers(url), f"{url} to answer", timeout_s=60)
        asyncio.run(self._known())

    async def _known(self) -> None:
        async with open_store(self.redis.url, self.queue) as store:

            async def look() -> bool:
                pids = [worker.pid for worker in await store.stats.workers()]
                return all(any(node.owns(pid) for pid in pids) for node in self.workers)

            await until(look, "every worker group to be known", timeout_s=60)

    def key(self, tenant: str) -> str:
        """An API key with every scope of the tenant."""
        if tenant not in self._keys:
            self._keys[tenant] = asyncio.run(self._new_key(tenant))
        return self._keys[tenant]

    async def _new_key(self, tenant: str) -> str:
        async with open_store(self.redis.url, self.queue) as store:
            return (await store.api_keys.create(tenant=tenant, name="test", scopes=SCOPES))[1]

    def kill_redis(self) -> None:
        """SIGKILL; returns when it is gone."""
        self.signal_redis(signal.SIGKILL)
        wait_until(self.redis.gone, "redis to be gone")

    def signal_redis(self, how: signal.Signals) -> None:
        """SIGSTOP and SIGCONT."""
        assert self.redis.pid is not None
        os.kill(self.redis.pid, how)


def _answers(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/readyz", timeout=2).status_code == 200
    except httpx2.HTTPError:
        return False


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def refuse_taken(port: int) -> None:
    """Fails when something answers there already: it would be somebody else's."""
    with socket.socket() as s:
        assert s.connect_ex(("127.0.0.1", port)) != 0, f"port {port} is in use by another process"


@contextmanager
def running_deployment(folder: Path, seed: int, **settings: str) -> Generator[Deployment]:
    """Starts a deployment in an empty folder; `settings` are ONCEQ_* variables without their prefix."""
    with ExitStack() as stack:
        redis = EmbeddedRedis(folder / "data", maxmemory=1024**3)
        redis.start()
        stack.callback(redis.stop)
        proxies = [Proxy(redis.socket) for _ in range(2)]
        for proxy in proxies:
            proxy.start()
            stack.callback(proxy.stop)
        simulator = start(
            [sys.executable, "-m", "onceq_service.simulator", "--port", "0"], {}, folder / "simulator.log"
        )
        stack.callback(simulator.stop)
        deployment = _furnish(folder, seed, redis, proxies, url_printed_by(simulator), settings)
        for node in (*deployment.apis, *deployment.workers):
            stack.callback(node.stop)
        deployment.mend()
        stack.callback(deployment.watch.start().communicate)
        yield deployment


def _furnish(
    folder: Path, seed: int, redis: EmbeddedRedis, proxies: Sequence[Proxy], simulator: str, settings: Mapping[str, str]
) -> Deployment:
    config, queue = folder / "onceq.toml", f"f{uuid4().hex[:10]}"
    config.write_text(CONFIG, "utf-8")
    env = {
        "ONCEQ_REDIS_URL": redis.url, "ONCEQ_QUEUE": queue, "ONCEQ_SIMULATOR_URL": simulator,
        "ONCEQ_CONFIG": str(config), "ONCEQ_LEASE_S": str(LEASE_S), "ONCEQ_WORKER_PROCESSES": "1",
        "ONCEQ_WORKER_CONCURRENCY": "16", "ONCEQ_KEEP_ALIVE_S": "1", "PYTHONWARNINGS": "error",
        "PYTHONFAULTHANDLER": "1",
    }  # fmt: skip
    env |= {f"ONCEQ_{name.upper()}": value for name, value in settings.items()}
    ports = [free_port() for _ in range(2)]
    for port in ports:
        refuse_taken(port)
    apis, workers = _nodes(env, (redis.url, proxies[1].url), (redis.url, proxies[0].url), ports, folder)
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    watch = Watch(folder)
    return Deployment(redis, proxies[0], proxies[1], simulator, queue, apis, workers, urls, folder, seed, watch)


def _nodes(
    env: dict[str, str], api_redis: Sequence[str], worker_redis: Sequence[str], ports: Sequence[int], folder: Path
) -> tuple[list[Node], list[Node]]:
    api_envs = [{"ONCEQ_REDIS_URL": url, "ONCEQ_PORT": str(p)} for url, p in zip(api_redis, ports, strict=True)]
    apis = [Node(f"api{n}", API, env | own, folder) for n, own in enumerate(api_envs)]
    workers = [Node(f"worker{n}", WORKER, env | {"ONCEQ_REDIS_URL": u}, folder) for n, u in enumerate(worker_redis)]
    return apis, workers
