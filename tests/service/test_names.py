"""Names that name nothing are told at the start: variables that nothing reads, aliases and lanes of no provider."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from onceq.errors import ConfigurationError
from onceq_service.names import ELSEWHERE, unread
from onceq_service.settings import FileConfig, load_settings, read_config
from tests.service.cli.conftest import Shell
from tests.stack import start, url_printed_by
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
FILE = FileConfig.model_validate({
    "providers": {"own": {"kind": "openai", "key_env": "ONCEQ_OWN_KEY"}}, "alerts": {"secret_env": "ONCEQ_SIGNS"},
})  # fmt: skip


def test_a_typo_is_told_with_the_name_that_may_be_meant() -> None:
    env = {"ONCEQ_WORKER_CONCURENCY": "64", "ONCEQ_ELEPHANT": "1", "onceq_lease": "1", "PATH": "/bin"}
    assert dict(unread(env, FileConfig())) == {
        "ONCEQ_WORKER_CONCURENCY": "ONCEQ_WORKER_CONCURRENCY", "ONCEQ_ELEPHANT": None, "onceq_lease": "ONCEQ_LEASE_S",
    }  # fmt: skip


def test_what_settings_file_and_kubernetes_bring_is_no_typo() -> None:
    env = load_settings().environment() | dict.fromkeys(ELSEWHERE, "x")
    env |= {"onceq_port": "1", "ONCEQ_OWN_KEY": "x", "ONCEQ_SIGNS": "x"}
    env |= {
        "ONCEQ_API_SERVICE_HOST": "10.0.0.1",
        "ONCEQ_API_SERVICE_PORT_HTTP": "80",
        "ONCEQ_API_PORT": "tcp://1.2.3.4",
    }
    env |= {"ONCEQ_API_PORT_80_TCP_ADDR": "10.0.0.1"}
    assert list(unread(env, FILE)) == []


def test_every_variable_that_our_code_names_is_known() -> None:
    """Whoever reads a new one of the environment adds it to those that are read elsewhere."""
    named = {
        name
        for folder in ("sdk", "service", "dashboard")
        for path in (ROOT / folder).rglob("*.py")
        for name in re.findall(r'environ[^\n"]*"(ONCEQ_[A-Z_]+)"', path.read_text("utf-8"))
    }
    assert {"ONCEQ_API_KEY", "ONCEQ_DASHBOARD_SECRETS"} <= named
    assert list(unread(dict.fromkeys(named, "x"), FileConfig())) == []


TYPO = {"ONCEQ_WORKER_CONCURENCY": "64", "ONCEQ_REDIS_URL": "redis://127.0.0.1:1", "ONCEQ_PORT": "0"}


def typos(folder: Path) -> dict[str, str]:
    """An environment and a file with a name of each kind that names nothing."""
    (folder / "typos.toml").write_text('[aliases]\nsmall = "opnai/gpt"\n[lanes."openai/*"]\n')
    return TYPO | {"ONCEQ_CONFIG": str(folder / "typos.toml"), "ONCEQ_LANES": '{"opnai/*": {"concurrency": 1}}'}


def test_a_worker_says_at_its_start_what_names_nothing_once_for_all_of_its_processes(tmp_path: Path) -> None:
    worker = start([sys.executable, "-m", "onceq_service", "worker"], typos(tmp_path), tmp_path / "worker.log")
    try:
        wait_until(lambda: worker.text().count("a worker serves") == 2, "both processes to serve", timeout_s=60)
        assert worker.text().count("is ONCEQ_WORKER_CONCURRENCY meant?") == 1
        refused = "each post with it is refused: its model is opnai/gpt"
        assert (
            worker.text().count(f"onceq: alias small: {refused}; no provider is named 'opnai'; is openai meant?") == 1
        )
        assert worker.text().count("onceq: lane opnai/*: limits nothing; no provider is named 'opnai'") == 1
    finally:
        worker.stop()


def test_an_api_says_it_once_for_all_of_its_processes(tmp_path: Path) -> None:
    env = typos(tmp_path) | {"ONCEQ_API_PROCESSES": "2", "ONCEQ_LOG_JSON": "true"}
    api = start([sys.executable, "-m", "onceq_service", "api"], env, tmp_path / "api.log")
    try:
        url_printed_by(api)
        [told] = [json.loads(line) for line in api.text().splitlines() if "CONCURENCY" in line]
        assert (told["name"], told["meant"]) == ("ONCEQ_WORKER_CONCURENCY", "ONCEQ_WORKER_CONCURRENCY")
        named = [json.loads(line) for line in api.text().splitlines() if "opnai" in line]
        assert [(line["level"], line["name"]) for line in named] == [
            ("warning", "alias small"),
            ("warning", "lane opnai/*"),
        ]
        assert {line["level"] for line in named} == {"warning"}
        assert {line["advice"] for line in named} == {"no provider is named 'opnai'; is openai meant?"}
    finally:
        api.stop()


def test_up_says_it_too_before_it_starts_anything(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    (shell.folder / ".onceq").write_text("")  # which ends it
    shell.env["ONCEQ_WORKER_CONCURENCY"] = "64"
    told = "onceq: ONCEQ_WORKER_CONCURENCY is set, and nothing reads it; is ONCEQ_WORKER_CONCURRENCY meant?"
    assert told in shell("up", "--no-dashboard").stderr


@pytest.mark.parametrize("url", ["htp:/nowhere", "localhost:8000", "http://", "http:///v1", "http://a b"])
def test_a_provider_s_url_that_is_none_is_refused(tmp_path: Path, url: str) -> None:
    (tmp_path / "onceq.toml").write_text(f'[providers.own]\nkind = "openai"\nbase_url = "{url}"\n')
    with pytest.raises(ConfigurationError, match=r"onceq\.toml can't be used: providers\.own\.base_url: "):
        read_config(tmp_path / "onceq.toml")
