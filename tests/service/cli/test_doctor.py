"""`onceq doctor` finds what is wrong, and says what to do."""

from __future__ import annotations

import json
import socket

import pytest

from onceq_service.embedded.doctor import redis_checks
from onceq_service.embedded.memory import MIB
from onceq_service.embedded.worker_check import worker_check
from onceq_service.settings import Settings
from onceq_service.store import ServerFacts
from tests.redis_user import as_user
from tests.service.cli.conftest import Shell
from tests.stack import Stack


def facts(**changes: object) -> ServerFacts:
    sound: dict[str, object] = {
        "version": "7.0.15", "appendonly": True, "appendfsync": "always", "maxmemory": 1024 * MIB,
        "maxmemory_policy": "noeviction", "used_memory": MIB, "clock_offset_ms": 3, "role": "master",
    }  # fmt: skip
    return ServerFacts(**(sound | changes))  # pyright: ignore[reportArgumentType] - a test may pass anything


def levels(found: ServerFacts) -> dict[str, str]:
    return {check.name: check.level for check in redis_checks(found) if check.level != "ok"}


def test_a_sound_redis_has_nothing_to_mend() -> None:
    assert levels(facts()) == {}
    assert not any(check.advice for check in redis_checks(facts()))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"version": "6.2.14"}, {"redis version": "fail"}),
        ({"version": "?"}, {"redis version": "fail"}),
        ({"appendonly": False}, {"persistence": "fail"}),
        ({"appendonly": None}, {"persistence": "warn"}),
        ({"appendfsync": "everysec"}, {"persistence": "warn"}),
        ({"appendfsync": None}, {"persistence": "warn"}),
        ({"maxmemory_policy": None}, {"eviction": "warn"}),
        ({"maxmemory_policy": "allkeys-lru"}, {"eviction": "fail"}),
        ({"role": "slave"}, {"redis role": "fail"}),
        ({"maxmemory": 0}, {"memory": "warn"}),
        ({"used_memory": 1000 * MIB}, {"memory": "fail"}),
        ({"shared": True}, {"redis database": "warn"}),
        ({"clock_offset_ms": -5000}, {"clock": "warn"}),
    ],
)
def test_each_thing_that_breaks_the_promise_is_found(changes: dict[str, object], expected: dict[str, str]) -> None:
    assert levels(facts(**changes)) == expected
    assert all(check.advice for check in redis_checks(facts(**changes)) if check.level != "ok")


def checks(shell: Shell, *options: str) -> dict[str, dict[str, str]]:
    return {check["name"]: check for check in json.loads(shell("doctor", "--json", *options).stdout)}


def test_before_the_first_start_it_says_what_would_be_started(shell: Shell) -> None:
    found = checks(shell, "--port", "0", "--dashboard-port", "0")
    assert "`onceq up` starts" in found["redis"]["says"]
    assert "simulated" in found["provider openai"]["says"]
    assert shell("doctor", "--port", "0", "--dashboard-port", "0").returncode == 0
    assert not (shell.folder / ".onceq").exists()


def test_a_port_in_use_fails(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        done = shell("doctor", "--port", port, "--dashboard-port", "0")
    assert done.returncode == 1
    assert f"fail  port {port}" in done.stdout
    assert "--port" in done.stdout


def test_a_port_where_the_api_itself_answers_is_no_fault(user: Shell, stack: Stack) -> None:
    port = stack.url.rpartition(":")[2]
    found = checks(user, "--port", port, "--dashboard-port", "0")[f"port {port}"]
    assert (found["level"], found["says"]) == ("ok", "the API runs there")


def test_as_a_health_check_it_asks_only_whether_a_worker_of_this_host_lives(user: Shell, stack: Stack) -> None:
    done = user("doctor", "--worker")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == 1
    user.env |= {"ONCEQ_QUEUE": "nobody-works-here"}
    done = user("doctor", "--worker")
    assert done.returncode == 1
    assert "alive in queue nobody-works-here" in done.stdout


def test_a_worker_of_another_host_does_not_count(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    found = worker_check(Settings(redis_url=stack.redis.url, queue=stack.queue))
    assert (found.level, found.says) == ("fail", f"none of elsewhere is alive in queue {stack.queue}")


def test_a_health_check_whose_redis_is_away_fails(shell: Shell) -> None:
    shell.env |= {"ONCEQ_REDIS_URL": "redis://127.0.0.1:1/0"}
    assert shell("doctor", "--worker").returncode == 1


def test_a_key_s_presence_is_told_and_its_value_is_not(shell: Shell) -> None:
    shell.env |= {"OPENAI_API_KEY": "sk-very-secret"}
    text = shell("doctor").stdout
    assert "real, OPENAI_API_KEY" in text
    assert "no key: its jobs fail with a clear error" in text
    assert "very-secret" not in text


def test_a_running_redis_is_looked_at(user: Shell) -> None:
    found = checks(user, "--port", "0", "--dashboard-port", "0")
    assert found["persistence"]["says"] == "appendonly yes, appendfsync always"
    assert found["eviction"]["says"] == "noeviction"


def test_what_a_restricted_user_may_not_know_is_no_false_alarm(user: Shell, stack: Stack) -> None:
    for rules in ("+@all -config", "+@all -config +config|get"):
        name = f"doctor-{len(rules)}"
        user.env["ONCEQ_REDIS_URL"] = as_user(stack.redis, name, rules)
        said = checks(user, "--port", "0", "--dashboard-port", "0")["persistence"]
        if "+config|get" in rules:
            assert said["level"] == "ok"
        else:
            assert said["level"] == "warn"
            assert "appendonly yes, appendfsync unknown: this Redis user may not CONFIG GET appendfsync" in said["says"]
            assert "+config|get" in said["advice"]
            assert "CONFIG SET" not in said["advice"]


TYPOS = """
[aliases]
small = "opnai/gpt"
large = ["openai/gpt", "gpt"]
fine = "openai/gpt"
[lanes."opnai/*"]
requests_per_minute = 5
[lanes.openai]
concurrency = 5
[lanes."*"]
concurrency = 5
[lanes."bedrock/*"]
concurrency = 5
"""


def test_a_name_that_names_nothing_is_told_with_the_one_that_may_be_meant(shell: Shell) -> None:
    (shell.folder / "onceq.toml").write_text(TYPOS)
    shell.env |= {"ONCEQ_WORKER_CONCURENCY": "64", "ONCEQ_DASHBOARD_HOST": "::1", "ONCEQ_API_KEY": "x"}
    found = checks(shell, "--port", "0", "--dashboard-port", "0")
    assert found["variable ONCEQ_WORKER_CONCURENCY"]["advice"] == "is ONCEQ_WORKER_CONCURRENCY meant?"
    kinds = ("variable", "alias", "lane")
    assert {name: check["level"] for name, check in found.items() if name.startswith(kinds)} == {
        "variable ONCEQ_WORKER_CONCURENCY": "warn", "alias small": "fail", "alias large": "fail",
        "lane opnai/*": "fail", "lane openai": "fail",
    }  # fmt: skip
    assert found["alias small"]["advice"] == "no provider is named 'opnai'; is openai meant?"
    assert found["lane openai"]["advice"].startswith("write openai/ and")


def test_a_redis_that_is_away_fails_without_its_password(shell: Shell) -> None:
    shell.env |= {"ONCEQ_REDIS_URL": "redis://:hidden-password@127.0.0.1:1/0"}
    done = shell("doctor", "--port", "0", "--dashboard-port", "0")
    assert done.returncode == 1
    assert "fail  redis " in done.stdout
    assert "hidden-password" not in done.stdout + done.stderr


def test_a_running_service_is_asked_how_it_is(user: Shell, stack: Stack) -> None:
    data = user.folder / ".onceq"
    data.mkdir()
    (data / "url").write_text(stack.url)
    (data / "api-key").write_text(user.env["ONCEQ_API_KEY"])
    (data / "api-key").chmod(0o644)
    found = checks(user)
    assert found["service"]["level"] == "ok"
    assert "chmod 600" in found["data folder"]["advice"]
    (data / "api-key").write_text("oq_wrong")
    assert "refuses the key" in checks(user)["service"]["says"]


def test_providers_are_judged_by_the_workers_that_run_not_by_the_shell(user: Shell, stack: Stack) -> None:
    user.env |= {"ONCEQ_QUEUE": stack.queue, "OPENAI_API_KEY": ""}
    found = checks(user, "--port", "0", "--dashboard-port", "0")
    assert found["workers"]["level"] == "ok"
    assert found["provider openai"]["says"] == "served by the running workers"
    user.env |= {"ONCEQ_QUEUE": "nobody-works-here"}
    found = checks(user, "--port", "0", "--dashboard-port", "0")
    assert (found["workers"]["level"], found["provider openai"]["level"]) == ("warn", "warn")
    assert "its jobs fail" in found["provider openai"]["says"], "`onceq worker` has no simulator"
    user.env |= {"ONCEQ_SIMULATOR_URL": stack.simulator}
    found = checks(user, "--port", "0", "--dashboard-port", "0")
    assert found["provider openai"]["says"] == "simulated, because asked for"
