"""`onceq up` as a person runs it: a process of its own, stopped by Ctrl-C, killed, started again."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import httpx2
import pytest

from onceq import Client, ConnectionFailed, OnceqError
from onceq.errors import ConfigurationError
from onceq_service.cli.up import prepared
from onceq_service.embedded.child import ProcessSpec
from onceq_service.embedded.environment import child_environment
from onceq_service.embedded.mode import choose_mode
from onceq_service.embedded.specs import ProcessSpecs
from onceq_service.embedded.stack import Stack
from onceq_service.embedded.waiting import StopSignal
from onceq_service.settings import load_settings
from tests.service.embedded.processes import alive, children, descendants
from tests.stack import KEYS, Process, start, url_printed_by
from tests.waiting import wait_until

READY = "Ctrl-C stops it all"


class Up:
    """One `onceq up`."""

    def __init__(self, folder: Path, *options: str, **more: str) -> None:
        self.data = folder / ".onceq"
        arguments = ["up", "--port", "0", "--dashboard-port", "0", "--data-dir", str(self.data), *options]
        log = folder / "up.log"
        log.unlink(missing_ok=True)
        env = {"HOME": str(folder), "ONCEQ_DRAIN_S": "5"} | more
        self.process: Process = start([sys.executable, "-m", "onceq_service", *arguments], env, log)
        wait_until(self._ready, "onceq up to be ready", timeout_s=120)
        self.family = descendants(self.pid)

    @property
    def pid(self) -> int:
        return self.process.popen.pid

    def client(self) -> Client:
        return Client(self.read("url"), self.read("api-key"))

    def read(self, name: str) -> str:
        return (self.data / name).read_text().strip()

    def signal(self, number: signal.Signals) -> int:
        self.process.popen.send_signal(number)
        return self.process.popen.wait(60)

    def _ready(self) -> bool:
        assert self.process.popen.poll() is None, self.process.text()
        return READY in self.process.text()


@pytest.fixture
def folder(tmp_path: Path) -> Generator[Path]:
    """A folder of its own; whatever a failing test leaves running there is ended."""
    yield tmp_path
    lock = tmp_path / ".onceq" / "lock"
    owner = int(lock.read_text()) if lock.exists() else 0
    for pid in [owner, *descendants(owner)] if owner and alive(owner) else []:
        os.kill(pid, signal.SIGKILL)


def test_up_answers_and_ctrl_c_leaves_nothing_behind_but_the_jobs(folder: Path) -> None:
    up = Up(folder)
    text = up.process.text()
    assert "SIMULATED" in text
    assert up.read("api-key") in text
    assert stat.S_IMODE((up.data / "api-key").stat().st_mode) == 0o600
    assert stat.S_IMODE(up.data.stat().st_mode) == 0o700
    dashboard = next(line.split()[-1] for line in text.splitlines() if "Dashboard" in line)
    assert httpx2.get(dashboard).status_code == 200
    with up.client() as client:
        job = client.submit("hello", model="openai/gpt-4o-mini").result(30)
    assert job.simulated
    assert httpx2.get(up.read("simulator-url") + "/meter", params={"job": job.id}).json()["totals"]["calls"] == 1
    assert len(up.family) >= 7  # redis, simulator, API, manager and two workers, dashboard

    assert up.signal(signal.SIGINT) == 0
    assert [pid for pid in up.family if alive(pid)] == []
    assert [path for path in up.data.rglob("*") if path.is_socket()] == []
    assert not [name for name in ("url", "simulator-url") if (up.data / name).exists()]
    assert "Stopped." in up.process.text()

    again, key = Up(folder, "--no-dashboard"), up.read("api-key")
    assert again.read("api-key") == key
    with again.client() as client:
        assert client.get(job.id).text == job.text
        assert client.submit("hello", model="openai/gpt-4o-mini").disposition == "replayed"
    assert again.signal(signal.SIGTERM) == 0


def test_a_killed_up_takes_its_processes_with_it_but_not_its_redis(folder: Path) -> None:
    up = Up(folder, "--no-dashboard")
    with up.client() as client:
        job = client.submit("hello", model="openai/gpt-4o-mini").result(30)
    redis = next(pid for pid in children(up.pid) if "redis" in _name(pid) or "valkey" in _name(pid))
    up.signal(signal.SIGKILL)
    wait_until(lambda: not [p for p in up.family if p != redis and alive(p)], "the children to end by themselves")
    assert alive(redis)

    heir = Up(folder, "--no-dashboard")
    assert "took it over" in heir.process.text()
    with heir.client() as client:
        assert client.get(job.id).text == job.text
    assert heir.signal(signal.SIGINT) == 0
    wait_until(lambda: not alive(redis), "the adopted server to end")


def test_a_child_that_dies_is_started_again_and_it_is_said(folder: Path) -> None:
    up = Up(folder, "--no-dashboard")
    api, redis = _child(up, "api"), _child(up, "redis.sock")
    os.kill(api, signal.SIGKILL)
    wait_until(lambda: "the api ended (exit code -9)" in up.process.text(), "the death to be told")
    os.kill(redis, signal.SIGKILL)
    wait_until(lambda: "the redis-server ended; it runs again" in up.process.text(), "Redis to be back")
    with up.client() as client:
        assert wait_until(lambda: _submitted(client), "a job to be taken").result(30).status == "succeeded"
    assert up.signal(signal.SIGINT) == 0


def test_a_second_up_on_the_same_folder_is_one_sentence_and_harms_nothing(folder: Path) -> None:
    up = Up(folder, "--no-dashboard")
    second = _run("up", "--data-dir", str(up.data), "--no-dashboard")
    assert second.returncode == 1
    assert second.stderr.splitlines() == [
        f"onceq: the data folder {up.data} is in use by another onceq (process {up.pid}): "
        "stop that one, or choose another with --data-dir."
    ]
    port = up.read("url").rpartition(":")[2]
    third = _run("up", "--data-dir", str(folder / "other"), "--port", port, "--no-dashboard")
    assert third.returncode == 1
    assert f"onceq: port {port} is in use, and the API needs it" in third.stderr
    with up.client() as client:
        assert client.health().status == "ok"
    assert up.signal(signal.SIGINT) == 0


def test_one_key_makes_everything_real_and_a_model_without_a_key_is_a_clear_error(folder: Path) -> None:
    simulator = start([sys.executable, "-m", "onceq_service.simulator"], {}, folder / "provider.log")
    config = folder / "onceq.toml"
    config.write_text(
        f'[providers.openai]\nkind = "openai"\nkey_env = "MY_KEY"\nbase_url = "{url_printed_by(simulator)}/openai/v1"\n'
    )
    left_over = folder / ".onceq" / "simulator-url"
    left_over.parent.mkdir(0o700)
    left_over.write_text("http://127.0.0.1:9\n")  # as one leaves it that is killed
    up = Up(folder, "--no-dashboard", ONCEQ_CONFIG=str(config), MY_KEY="sk-secret")
    assert not left_over.exists()
    text = up.process.text()
    assert "REAL: calls go to the providers" in text
    assert "real (MY_KEY)" in text
    assert "no key (set ANTHROPIC_API_KEY to use it)" in text
    assert "sk-secret" not in text
    assert not any("simulator" in _name(pid) for pid in up.family)
    with up.client() as client:
        assert not client.submit("hello", model="openai/gpt-4o-mini").result(30).simulated
        with pytest.raises(OnceqError, match=r"provider_(not_served|key_missing)"):
            client.submit("hello", model="anthropic/claude-haiku-4-5").result(30)
    assert _holders("sk-secret", up.family) == {"worker"}
    assert up.signal(signal.SIGINT) == 0
    assert simulator.stop() in {0, -signal.SIGTERM}


def test_a_secrets_file_of_the_dashboard_that_is_not_there_ends_up_in_a_sentence(folder: Path) -> None:
    env = {"HOME": str(folder), "ONCEQ_DASHBOARD_SECRETS": "/nowhere/secrets.toml"}
    arguments = ("up", "--port", "0", "--dashboard-port", "0", "--data-dir", str(folder / ".onceq"))
    process = start([sys.executable, "-m", "onceq_service", *arguments], env, folder / "up.log")
    assert process.popen.wait(120) == 1
    assert "ONCEQ_DASHBOARD_SECRETS names /nowhere/secrets.toml, which can't be used" in process.text()


def test_a_child_that_ends_is_told_at_once_however_long_another_takes(
    short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never_ready(kitchen: ProcessSpecs, _: str) -> ProcessSpec:
        return ProcessSpec("api", ("api",), child_environment("api", kitchen.settings, os.environ, []), lambda: False)

    monkeypatch.setattr(ProcessSpecs, "api", never_ready)
    monkeypatch.setenv("ONCEQ_DASHBOARD_SECRETS", "/nowhere/secrets.toml")
    settings = load_settings(data_dir=short_folder / ".onceq", port=0, dashboard_port=0, worker_processes=1)
    mode = choose_mode({}, {})
    with StopSignal() as signals:
        stack = Stack(prepared(settings, mode), mode, signals, print)
        try:
            with pytest.raises(ConfigurationError, match=r"the dashboard did not start:\n.*/nowhere/secrets\.toml"):
                stack.start()
        finally:
            stack.stop()


def _holders(secret: str, family: list[int]) -> set[str]:
    """The commands of the processes in whose environment the secret is."""
    found = [pid for pid in family if secret in Path(f"/proc/{pid}/environ").read_text()]
    return {_name(pid).split()[-1] for pid in found}


def _submitted(client: Client):
    try:
        return client.submit("still there?", model="anthropic/claude-haiku-4-5", fresh=True)
    except ConnectionFailed:  # the API is on its way
        return None


def _child(up: Up, word: str) -> int:
    return next(pid for pid in children(up.pid) if word in _name(pid))


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if k not in KEYS and not k.startswith("ONCEQ_")}
    command = [sys.executable, "-m", "onceq_service", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
