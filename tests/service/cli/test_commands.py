"""The command line's edges: help, version, missing extras, settings that can't be used, a port in use."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

import onceq
from onceq.errors import ConfigurationError
from onceq_service.cli.serve import need_dashboard
from onceq_service.embedded.credentials import ensure_key
from onceq_service.settings import load_settings, read_config
from tests.service.cli.conftest import Shell

COMMANDS = ("up", "demo", "ask", "doctor", "api", "worker", "dashboard", "simulator", "jobs", "keys", "export")


def test_help_lists_every_command_in_a_line(shell: Shell) -> None:
    text = shell.output("--help")
    for command in COMMANDS:
        assert f"\n  {command} " in text
    assert "..." not in text.partition("Commands:")[2]


@pytest.mark.parametrize("group", ["jobs", "keys", "budgets", "lanes"])
def test_help_of_a_group_lists_its_commands_in_a_line_each(shell: Shell, group: str) -> None:
    listed = shell.output(group, "--help").partition("Commands:")[2]
    assert listed
    assert "..." not in listed


@pytest.mark.parametrize(
    ("command", "says", "not_said"),
    [
        ("demo", "temporary one", "ONCEQ_DATA_DIR"),
        ("showroom", "[default: 1]", "ONCEQ_"),
        ("api", "Uses ONCEQ_REDIS_URL [redis://127.0.0.1:6379/0]", "Needs ONCEQ_REDIS_URL"),
        ("worker", "Uses ONCEQ_REDIS_URL [redis://127.0.0.1:6379/0]", "Needs ONCEQ_REDIS_URL"),
        ("keys rotate", "create a new one, then revoke the old", "..."),
        ("keys create", "operator: all of that", "One of: "),
        ("jobs list", "like 2026-11-24T10:00", "<datetime>"),
        ("budgets create", "like 0.8; may be repeated", "list[float]"),
    ],
)
def test_help_says_what_a_command_does_with_what_it_is_given(
    shell: Shell, command: str, says: str, not_said: str
) -> None:
    text = " ".join(shell.output(*command.split(), "--help").split())
    assert says in text
    assert not_said not in text


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(shell: Shell, command: str) -> None:
    assert "sage: " in shell.output(command, "--help")


def test_version(shell: Shell) -> None:
    assert shell.output("--version") == f"onceq {onceq.__version__}\n"


def test_a_wrong_option_is_told_with_the_usage(shell: Shell) -> None:
    done = shell("up", "--prot", "1")
    assert done.returncode == 2
    assert "--prot" in done.stderr


def test_a_setting_that_can_not_be_used_is_one_sentence(tmp_path: Path) -> None:
    done = Shell(tmp_path, ONCEQ_PORT="many")("doctor")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "ONCEQ_PORT: Input should be a valid integer" in done.stderr


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("LABEL_KEYS", "project", "list"),
        ("CORS_ORIGINS", "https://a.b", "list"),
        ("LANES", "nope", "object"),
        ("TENANTS", "{", "object"),
    ],
)
def test_a_value_that_is_not_json_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, kind: str
) -> None:
    monkeypatch.setenv(f"ONCEQ_{name}", value)
    with pytest.raises(ConfigurationError, match=rf"not usable: ONCEQ_{name}: write a JSON {kind} like '.*'\.$"):
        load_settings()


@pytest.mark.parametrize("where", ["missing.toml", "."])
def test_a_configuration_that_is_no_file_is_one_sentence_of_all_processes(tmp_path: Path, where: str) -> None:
    done = Shell(tmp_path, ONCEQ_CONFIG=where, ONCEQ_API_PROCESSES="2", ONCEQ_PORT="0")("api")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"{where} can't be used: " in done.stderr


def test_a_configuration_file_that_is_not_utf_8_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "onceq.toml").write_bytes(b'[aliases]\nsmall = "\xe9/x"\n')
    with pytest.raises(ConfigurationError, match=r"onceq\.toml can't be used: .*utf-8"):
        read_config(tmp_path / "onceq.toml")


@pytest.mark.parametrize("command", ["worker", "api", "keys list"])
def test_a_url_that_is_no_redis_s_is_one_sentence(tmp_path: Path, command: str) -> None:
    done = Shell(tmp_path, ONCEQ_REDIS_URL="localhost:6379")(*command.split())
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "not usable: ONCEQ_REDIS_URL: is no URL of a Redis" in done.stderr


@pytest.mark.parametrize(
    "url", ["http://:hidden@x", "redis://u:1#hidden@x", "redis://u:1?hidden@x", "redis://:hidden/b@x", "redis://x:many",
            "redis://", "redis:/x", "unix://", "REDIS://x", "redis://[x", " redis://x"],
)  # fmt: skip
def test_a_redis_url_that_redis_py_would_misread_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError, match="ONCEQ_REDIS_URL") as refused:
        load_settings(redis_url=url)
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["redis://x", "rediss://u:p%40w@x:6380/3?ssl_ca_certs=/ca.pem", "unix:///a@b/redis.sock?db=1",
            "unix://u:p@/redis.sock", "redis://[::1]:6379/0"],
)  # fmt: skip
def test_a_redis_url_that_redis_py_can_open_is_taken_as_it_is(url: str) -> None:
    assert load_settings(redis_url=url).redis_url == url


def test_an_empty_variable_is_as_one_that_is_not_set(tmp_path: Path) -> None:
    done = Shell(tmp_path, ONCEQ_REDIS_URL="", ONCEQ_PORT="", ONCEQ_LABEL_KEYS="", ONCEQ_CONFIG="")("keys", "list")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "start `onceq up` there, or set ONCEQ_REDIS_URL" in done.stderr


@pytest.mark.parametrize(
    ("seconds", "less_than", "enough"),
    [
        ({"RESULT_TTL": 3600}, "ONCEQ_IDEMPOTENCY_TTL_S (86400),", 86400),
        ({"RESULT_TTL": 60, "IDEMPOTENCY_TTL": 60}, "ONCEQ_DEDUPE_WINDOW_S (600),", 600),
        ({"RESULT_TTL": 60}, "ONCEQ_IDEMPOTENCY_TTL_S (86400) and ONCEQ_DEDUPE_WINDOW_S (600),", 86400),
    ],
)
def test_results_that_go_before_the_keys_that_find_them_are_refused(
    monkeypatch: pytest.MonkeyPatch, seconds: dict[str, int], less_than: str, enough: int
) -> None:
    """G2 promises one job for a key, and for a question in its window: neither may outlive the answer."""
    for name, value in seconds.items():
        monkeypatch.setenv(f"ONCEQ_{name}_S", str(value))
    with pytest.raises(ConfigurationError) as refused:
        load_settings()
    told = str(refused.value)
    assert f"not usable: ONCEQ_RESULT_TTL_S ({seconds['RESULT_TTL']}) is less than {less_than}" in told
    assert f"raise it to {enough} or more, or lower" in told


def test_results_may_go_with_their_keys() -> None:
    assert load_settings(result_ttl_s=60, idempotency_ttl_s=60, dedupe_window_s=60).result_ttl_s == 60


def test_a_tenant_in_settings_is_one_that_a_key_can_have(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "onceq.toml").write_text('[tenants."a:b"]\nweight = 2')
    with pytest.raises(ConfigurationError, match=r"onceq\.toml can't be used: tenants\.a:b"):
        read_config(tmp_path / "onceq.toml")
    monkeypatch.setenv("ONCEQ_TENANTS", '{"a:b": {"weight": 2}}')
    with pytest.raises(ConfigurationError, match=r"ONCEQ_TENANTS: String should match"):
        load_settings()


@pytest.mark.parametrize("weight", ["0", "0.0009", "1001", "nan"])
def test_a_weight_is_between_a_thousandth_and_a_thousand(weight: str, tmp_path: Path) -> None:
    (tmp_path / "onceq.toml").write_text(f"[tenants.acme]\nweight = {weight}")
    with pytest.raises(ConfigurationError, match=r"onceq\.toml can't be used: tenants\.acme\.weight"):
        read_config(tmp_path / "onceq.toml")


def test_a_broken_configuration_file_is_named(shell: Shell) -> None:
    (shell.folder / "onceq.toml").write_text("providers = 3")
    done = shell("up", "--no-dashboard")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "onceq.toml can't be used: providers: Input should be" in done.stderr


def test_what_is_wrong_with_the_whole_file_is_said_without_a_place(shell: Shell) -> None:
    budget = '[[budgets]]\nname = "x"\nlimit_usd = 1\n'
    (shell.folder / "onceq.toml").write_text(budget * 2)
    assert "onceq.toml can't be used: [[budgets]] has two of tenant" in shell("up", "--no-dashboard").stderr


def test_a_key_file_that_can_not_be_read_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "api-key").mkdir()
    with pytest.raises(ConfigurationError, match=r"api-key can't be read: .*Move it away"):
        ensure_key(load_settings(data_dir=tmp_path))


def test_a_data_folder_that_is_a_file_is_one_sentence(shell: Shell) -> None:
    (shell.folder / ".onceq").write_text("")
    done = shell("up", "--no-dashboard")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "is a file, not a folder" in done.stderr


def test_a_port_in_use_is_one_sentence_and_leaves_nothing_running(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = shell("up", "--port", "0", "--dashboard-port", str(port))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"port {port} is in use, and the dashboard needs it" in done.stderr
    assert not (shell.folder / ".onceq" / "redis" / "redis.sock").exists()


def test_without_the_service_s_packages_one_sentence_says_which_extra(tmp_path: Path) -> None:
    hide = "import sys; sys.modules['typer'] = None; from onceq_service.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", hide], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "onceq: typer is not installed; the service needs it: pip install 'onceq[service]'\n"


def test_without_streamlit_the_dashboard_says_which_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "streamlit", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'onceq\[dashboard\]'"):
        need_dashboard()
