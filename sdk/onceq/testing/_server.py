"""`onceq up --simulate` in a process and a folder of its own, and what a test wants to know of it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from uuid import uuid4

import httpx2

from onceq._client import Client
from onceq.errors import ConfigurationError, OnceqError
from onceq.wire import SCOPES, Scope

START_S: Final = 120.0
"""A cold import of everything on a slow disk."""
STOP_S: Final = 30.0
PAUSE_S: Final = 0.1
SERVICE_MODULES: Final = ("fastapi", "redis", "taskiq", "typer")


@dataclass(frozen=True, slots=True)
class PrivateOnceq:
    """A running onceq that nobody else uses. `api_key` has every scope; `simulator_url` is where the calls go."""

    base_url: str
    api_key: str = field(repr=False)
    simulator_url: str

    def client(self, *, model: str | None = None) -> Client:
        """A client for it; close it, or use it in a `with` block."""
        return Client(self.base_url, self.api_key, model=model)

    def new_tenant(self) -> str:
        """The API key (all scopes but `operator`) of a tenant that has no jobs yet, so that no test joins another's."""
        scopes: list[Scope] = [scope for scope in SCOPES if scope != "operator"]
        with self.client() as client:
            return client.create_key("test", scopes=scopes, tenant=f"test-{uuid4().hex[:12]}").secret

    def billed_calls(self, job_id: str | None = None) -> int:
        """How many calls a provider would have billed so far, of one job or of all; refused ones are not billed."""
        query = {"job": job_id} if job_id else {}
        answer = httpx2.get(f"{self.simulator_url}/meter", params=query, trust_env=False)
        return int(answer.raise_for_status().json()["totals"]["calls"])


@contextmanager
def private_onceq(*, workers: int = 1) -> Generator[PrivateOnceq]:
    """Start one, with that many worker processes, and stop it at the end; its data goes with it.

    Takes seconds, so share it between tests. No setting of the environment reaches it. Raises ConfigurationError when
    the extra `service` is not installed, or when it does not start (with its last words).
    """
    _need_service()
    folder = Path(tempfile.mkdtemp(prefix="onceq-"))
    log = folder / "up.log"
    process = _start(folder, workers, log)
    try:
        yield _ready(process, folder, workers, log)
    finally:
        _stop(process)
        shutil.rmtree(folder, ignore_errors=True)


def _need_service() -> None:
    missing = [name for name in SERVICE_MODULES if find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"a private onceq needs the service, and {missing[0]} is not installed: pip install 'onceq[service]'"
        )


def _start(folder: Path, workers: int, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "onceq_service", "up", "--simulate", "--no-dashboard"]
    options = ["--port", "0", "--data-dir", str(folder / "data"), "--workers", str(workers)]
    env = {name: value for name, value in os.environ.items() if not name.startswith("ONCEQ_")}
    with log.open("wb") as out:
        # a group of its own: Ctrl-C on the tests is ours to pass on; a folder of its own: no onceq.toml is found
        return subprocess.Popen(  # noqa: S603 - our own module
            [*command, *options],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _ready(process: subprocess.Popen[bytes], folder: Path, workers: int, log: Path) -> PrivateOnceq:
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        found = _found(folder / "data")
        if found is not None and _serves(found, workers):
            return found
        time.sleep(PAUSE_S)
    raise ConfigurationError(f"the private onceq did not start:\n{log.read_text('utf-8', 'replace')[-2000:]}")


def _found(data: Path) -> PrivateOnceq | None:
    """What `onceq up` has told in its folder; the API's URL is told last."""
    try:
        url, key, simulator_url = (
            (data / name).read_text("utf-8").strip() for name in ("url", "api-key", "simulator-url")
        )
    except FileNotFoundError:
        return None
    return PrivateOnceq(url, key, simulator_url)


def _serves(server: PrivateOnceq, workers: int) -> bool:
    try:
        with server.client() as client:
            return client.stats().fleet.processes >= workers
    except OnceqError:
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
