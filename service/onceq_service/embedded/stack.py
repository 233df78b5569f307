"""All of onceq on one machine: started in order, kept alive, stopped in order.

simulator -> redis -> API -> workers -> dashboard; backwards on the way out, the workers first, because they finish
what is being paid for while everything that they need is still there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from onceq.errors import ConfigurationError, OnceqError
from onceq_service.embedded.child import Child, ProcessSpec
from onceq_service.embedded.credentials import KEY_FILE, SIMULATOR_FILE, URL_FILE, ensure_key, write_private
from onceq_service.embedded.lock import FolderLock, make_folder
from onceq_service.embedded.mode import Mode
from onceq_service.embedded.ports import ClaimedPort, claim_port
from onceq_service.embedded.redis_server import EmbeddedRedis
from onceq_service.embedded.specs import ProcessSpecs, local_url
from onceq_service.embedded.waiting import StopSignal
from onceq_service.settings import Settings

READY_S: Final = 120.0
"""How long a child may take to get ready: a cold import of everything on a slow disk."""
STOP_S: Final = 10.0
TICK_S: Final = 0.2

Say = Callable[[str], None]


class Interrupted(Exception):  # noqa: N818 - what happened, not a fault
    """Somebody pressed Ctrl-C before everything was up."""


class Stack:
    """One running onceq. `start`, then `watch` until there is a signal, then `stop`, always.

    After the start `settings` are what the children were given, `base_url` and `api_key` what a client needs.
    """

    def __init__(
        self, settings: Settings, mode: Mode, signals: StopSignal, say: Say, *, dashboard: bool = True
    ) -> None:
        self.settings = settings
        self.mode = mode
        self.api_key = ""
        self.redis: EmbeddedRedis | None = None
        self._dashboard = dashboard
        self._signals = signals
        self._say = say
        self._lock: FolderLock | None = None
        self._children: list[Child] = []
        self._starts: dict[str, float] = {}
        self._ports: list[ClaimedPort] = []
        self._redis_deaths = 0
        self._told = False

    @property
    def base_url(self) -> str:
        """Where the API is, seen from this machine."""
        return local_url(self.settings.host, self.settings.port)

    @property
    def dashboard_url(self) -> str | None:
        """Where the dashboard is; None when it was not wanted."""
        return local_url(self.settings.host, self.settings.dashboard_port) if self._dashboard else None

    def start(self) -> None:
        """Starts everything and returns when it answers; raises ConfigurationError, or Interrupted by a signal."""
        self._begin_redis()
        self._choose_ports()
        self.api_key = ensure_key(self.settings)
        specs = ProcessSpecs(self.settings)
        if self.settings.simulator_url and self.mode.simulated:
            self._begin(specs.simulator(self.settings.simulator_url))
        api = self._begin(specs.api(self.base_url))
        self._begin(specs.worker(self.base_url, self.api_key))
        if self._dashboard:
            self._begin(specs.dashboard(self.base_url, self.api_key))
        self._await(api)
        self._tell()
        for child in self._children:
            self._await(child)
        self._release_ports()

    def watch(self) -> None:
        """Keeps everything alive until a signal comes."""
        while not self._signals.wait(TICK_S):
            self._keep_redis()
            for child in self._children:
                self._keep(child)

    def stop(self) -> None:
        """Stops whatever runs; another signal while the workers finish ends their patience."""
        self._terminate("worker", "dashboard")
        self._release_ports()
        seen = self._signals.count
        self._end("worker", self.settings.drain_s + STOP_S, lambda: self._signals.count > seen)
        self._end("dashboard")
        self._terminate("api")
        self._end("api")
        self._terminate("simulator")
        self._end("simulator")
        if self._told:
            for name in (URL_FILE, SIMULATOR_FILE):
                (self.settings.data_dir / name).unlink(missing_ok=True)
        if self.redis is not None:
            self.redis.stop()
        if self._lock is not None:
            self._lock.release()

    def _tell(self) -> None:
        """Where it is, to clients on this machine; the API's URL last, since whoever looks for it wants all of it."""
        self._told = True
        simulator = self.settings.data_dir / SIMULATOR_FILE
        simulator.unlink(missing_ok=True)  # of one that was killed here
        if self.mode.simulated:
            write_private(simulator, f"{self.settings.simulator_url}\n")
        write_private(self.settings.data_dir / URL_FILE, self.base_url + "\n")

    def _begin_redis(self) -> None:
        """Ours, unless ONCEQ_REDIS_URL names one; the folder is locked either way."""
        if "redis_url" in self.settings.model_fields_set:
            self._lock = FolderLock(self.settings.data_dir)
            self._lock.acquire()
            return
        redis = EmbeddedRedis(self.settings.data_dir)
        redis.start()
        self.redis = redis
        self.settings = self.settings.model_copy(update={"redis_url": redis.url})
        if redis.adopted:
            self._say("found the redis-server that an earlier onceq left behind here, and took it over")

    def _choose_ports(self) -> None:
        host = self.settings.host
        chosen: dict[str, object] = {"port": self._claim(host, self.settings.port, "API", "--port")}
        if self._dashboard:
            wanted = self.settings.dashboard_port
            chosen["dashboard_port"] = self._claim(host, wanted, "dashboard", "--dashboard-port")
        if self.mode.simulated and self.settings.simulator_url is None:
            port = self._claim("127.0.0.1", 0, "simulator", "--simulate")
            chosen["simulator_url"] = f"http://127.0.0.1:{port}"
        self.settings = self.settings.model_copy(update=chosen)

    def _claim(self, host: str, port: int, what: str, option: str) -> int:
        """A free port, kept from others until everything is up: whoever answered there would be taken for our child."""
        self._ports.append(claim_port(host, port, what, option))
        return self._ports[-1].number

    def _release_ports(self) -> None:
        for port in self._ports:
            port.release()
        self._ports.clear()

    def _begin(self, spec: ProcessSpec) -> Child:
        child = Child(spec, make_folder(self.settings.data_dir / "logs"))
        self._children.append(child)
        child.start()
        return child

    def _await(self, child: Child) -> None:
        deadline = time.monotonic() + READY_S
        while not child.spec.ready():
            self._must_all_run()
            if time.monotonic() > deadline:
                raise ConfigurationError(f"the {child.name} was not ready in {READY_S:.0f} s: see {child.log}")
            if self._signals.wait(0.05):
                raise Interrupted

    def _must_all_run(self) -> None:
        """Whoever has ended by now would be waited for in vain, however long the others take."""
        for child in self._children:
            if child.exit_code() is not None:
                raise ConfigurationError(f"the {child.name} did not start:\n{child.log_tail(6)}\n(log: {child.log})")

    def _keep(self, child: Child) -> None:
        """Starts a child again that has died, after a pause that grows with each death."""
        code = child.exit_code()
        if code is not None:
            pause_s = child.record_exit()
            self._starts[child.name] = time.monotonic() + pause_s
            self._say(f"the {child.name} ended (exit code {code}); starting it again in {pause_s:g} s, see {child.log}")
        if child.pid is None and time.monotonic() >= self._starts[child.name]:
            child.start()

    def _keep_redis(self) -> None:
        if self.redis is None or not self.redis.gone() or time.monotonic() < self._starts.get("redis", 0.0):
            return
        self._redis_deaths += 1
        self._starts["redis"] = time.monotonic() + min(2.0**self._redis_deaths, 30.0)
        try:
            self.redis.revive()
            self._say("the redis-server ended; it runs again, with everything that was accepted")
        except OnceqError as exc:
            self._say(f"the redis-server ended, and does not start again: {exc}")

    def _terminate(self, *names: str) -> None:
        for child in self._children:
            if child.name in names:
                child.terminate()

    def _end(self, name: str, grace_s: float = STOP_S, hurry: Callable[[], bool] = lambda: False) -> None:
        for child in self._children:
            if child.name == name:
                child.wait(grace_s, hurry)


def key_path(settings: Settings) -> str:
    """Where the API key is, for people."""
    return str(settings.data_dir / KEY_FILE)
