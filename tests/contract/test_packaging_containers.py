"""docker-compose.yml and the Dockerfile: what G1 needs of Redis, no default secret, keys for workers alone."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from onceq_service.cli import app
from onceq_service.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
SERVICES = cast("dict[str, dict[str, Any]]", yaml.safe_load(COMPOSE.read_text("utf-8"))["services"])
OURS = ("api", "worker", "dashboard")
PROVIDER_KEYS = {"OPENAI_API_KEY", "ANTHROPIC_API_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}


def test_redis_keeps_what_it_acknowledges_and_evicts_nothing() -> None:
    redis = SERVICES["redis"]
    for option in ("--appendonly yes", "--appendfsync always", "--maxmemory-policy noeviction", "--maxmemory "):
        assert option in redis["command"]
    assert redis["volumes"] == ["redis:/data"]
    assert "ports" not in redis


def test_the_three_processes_are_one_image_and_start_by_commands_that_exist() -> None:
    commands = {c.callback.__name__ for c in app.registered_commands if c.callback}
    for name in OURS:
        assert SERVICES[name]["image"] == "onceq"
        assert SERVICES[name]["command"] == [name]
        assert name in commands


def test_each_may_finish_what_it_does_and_is_watched() -> None:
    for name, service in SERVICES.items():
        assert service["healthcheck"]["test"]
        assert name == "redis" or service["stop_grace_period"] == "120s"
    assert Settings.model_fields["drain_s"].default < 120


def test_a_worker_is_healthy_while_it_lives_whatever_else_is_wrong() -> None:
    assert SERVICES["worker"]["healthcheck"]["test"] == ["CMD", "onceq", "doctor", "--worker"]


def test_provider_keys_reach_the_workers_alone_and_have_no_default() -> None:
    for name in OURS:
        environment = cast("dict[str, str | None]", SERVICES[name]["environment"])
        assert bool(PROVIDER_KEYS & environment.keys()) == (name == "worker")
        for variable in environment:
            if re.search("KEY|SECRET|TOKEN|PASSWORD", variable):
                assert environment[variable] is None


def test_every_onceq_variable_is_a_setting() -> None:
    other = {"ONCEQ_BASE_URL", "ONCEQ_API_KEY", "ONCEQ_DASHBOARD_HOSTS"}
    known = {f"ONCEQ_{name.upper()}" for name in Settings.model_fields} | other
    for name in OURS:
        assert {v for v in SERVICES[name]["environment"] if v.startswith("ONCEQ_")} <= known
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    assert set(re.findall(r"(ONCEQ_[A-Z_]+)=", dockerfile)) <= known


def test_ports_are_open_to_this_machine_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_image_installs_what_is_pinned_and_runs_as_nobody_special() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    assert "--require-hashes -r requirements-run.lock" in dockerfile
    assert re.search(r"^USER onceq$", dockerfile, flags=re.MULTILINE)
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, flags=re.MULTILINE)
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {path for line in copied for path in line.split()} == allowed


def test_the_compose_client_accepts_it() -> None:
    if shutil.which("docker") is None or run("version").returncode:
        pytest.skip("there is no compose client here; the tests above read the file as YAML")
    done = run("-f", str(COMPOSE), "config", "--quiet")
    assert done.returncode == 0, done.stderr


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", "compose", *arguments], capture_output=True, text=True, check=False)
