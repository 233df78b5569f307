"""Real or simulated: decided for all providers at once, told by name, and the keys kept where they belong."""

from __future__ import annotations

from pathlib import Path

import pytest

from onceq_service.embedded.banner import mode_lines
from onceq_service.embedded.environment import SUPERVISED, Role, child_environment
from onceq_service.embedded.mode import Mode, choose_mode
from onceq_service.providers import missing_keys
from onceq_service.settings import DEFAULT_PROVIDERS, ProviderConfig, Settings


def mode(env: dict[str, str], *, simulate: bool = False, **more: ProviderConfig) -> Mode:
    return choose_mode(DEFAULT_PROVIDERS | more, env, simulate=simulate)


def how(chosen: Mode) -> dict[str, str]:
    return {provider.name: provider.how for provider in chosen.providers}


def test_without_any_key_the_simulator_answers_for_all() -> None:
    assert mode({}).simulated
    assert how(mode({})) == {"openai": "simulated", "anthropic": "simulated", "bedrock": "simulated"}


@pytest.mark.parametrize(
    ("variable", "provider"),
    [
        ("OPENAI_API_KEY", "openai"),
        ("ANTHROPIC_API_KEY", "anthropic"),
        ("AWS_ACCESS_KEY_ID", "bedrock"),
        ("AWS_PROFILE", "bedrock"),
    ],
)
def test_one_key_makes_its_provider_real_and_nothing_simulated(variable: str, provider: str) -> None:
    chosen = mode({variable: "secret-value"})
    assert not chosen.simulated
    assert how(chosen) == dict.fromkeys(DEFAULT_PROVIDERS, "no key") | {provider: "real"}


def test_an_empty_variable_is_no_key() -> None:
    assert mode({"OPENAI_API_KEY": ""}).simulated


SOURCES: list[dict[str, str]] = [
    {"OPENAI_API_KEY": "a"},
    {"ANTHROPIC_API_KEY": "a"},
    {"AWS_ACCESS_KEY_ID": "a"},
    {"AWS_PROFILE": "a"},
    {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "a"},
    {"AWS_EC2_METADATA_DISABLED": "false"},
    {"AWS_EC2_METADATA_DISABLED": "true"},
    {},
]


@pytest.mark.parametrize("env", SOURCES)
def test_what_is_said_to_be_real_is_what_a_worker_opens_there_also_beside_a_credentials_file(
    env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text("[default]\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    configs = DEFAULT_PROVIDERS | {"openai": ProviderConfig(kind="openai", first_byte_s=5)}
    real = {name for name, is_ in how(choose_mode(configs, env)).items() if is_ == "real"}
    assert real == configs.keys() - missing_keys(configs, env)


def test_each_provider_without_a_key_says_which_variable_it_wants() -> None:
    chosen = mode({"ANTHROPIC_API_KEY": "a"}, openai=ProviderConfig(kind="openai"))
    says = {provider.name: provider.because for provider in chosen.providers}
    assert says["openai"] == "set OPENAI_API_KEY to use it"
    assert says["bedrock"] == "set AWS_PROFILE or AWS_ACCESS_KEY_ID to use it"


def test_simulate_wins_over_keys() -> None:
    assert mode({"OPENAI_API_KEY": "k"}, simulate=True).simulated


def test_a_configured_provider_s_own_variable_counts() -> None:
    azure = ProviderConfig(kind="openai", base_url="https://example.test/v1", key_env="AZURE_KEY")
    assert how(mode({"AZURE_KEY": "k"}, azure=azure))["azure"] == "real"
    assert mode({}, azure=azure).simulated


def test_a_server_that_needs_no_key_is_real() -> None:
    ollama = ProviderConfig(kind="openai", base_url="http://127.0.0.1:11434/v1")
    assert how(mode({}, ollama=ollama))["ollama"] == "real"


def test_the_banner_names_the_source_of_a_key_and_never_the_key() -> None:
    text = "\n".join(mode_lines(mode({"OPENAI_API_KEY": "secret-value"})))
    assert text.startswith("REAL")
    assert "OPENAI_API_KEY" in text
    assert "no key (set ANTHROPIC_API_KEY to use it)" in text
    assert "secret-value" not in text


def test_the_banner_says_simulated_and_why() -> None:
    assert mode_lines(mode({}))[0].startswith("SIMULATED: no provider has a key")


SECRETS = {
    "OPENAI_API_KEY": "a",
    "AWS_SECRET_ACCESS_KEY": "b",
    "AWS_REGION": "eu-central-1",
    "AZURE_KEY": "c",
    "PATH": "/bin",
    "ONCEQ_QUEUE": "other",
}


def test_provider_keys_reach_real_workers_and_nobody_else() -> None:
    settings = Settings(redis_url="unix:///r.sock")
    worker = child_environment("worker", settings, SECRETS, ["AZURE_KEY"])
    assert {"OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AZURE_KEY"} <= worker.keys()
    for role in ("api", "dashboard", "simulator"):
        env = child_environment(role, settings, SECRETS, ["AZURE_KEY"])
        assert not {"OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "AZURE_KEY"} & env.keys()
        assert env["PATH"] == "/bin"


def test_simulated_workers_get_no_key() -> None:
    settings = Settings(simulator_url="http://127.0.0.1:1")
    assert "OPENAI_API_KEY" not in child_environment("worker", settings, SECRETS, [])


ROLES: tuple[Role, ...] = ("api", "worker", "dashboard", "simulator")


@pytest.mark.parametrize("name", ["ONCEQ_WEBHOOK_SECRET", "ALERT_SECRET"])
@pytest.mark.parametrize("simulator", [None, "http://127.0.0.1:1"])
def test_the_secret_that_signs_alerts_reaches_the_workers_alone_under_whatever_name(
    tmp_path: Path, name: str, simulator: str | None
) -> None:
    config = tmp_path / "onceq.toml"
    config.write_text(f'[alerts]\nwebhook_url = "https://hooks.example.com"\nsecret_env = "{name}"\n')
    settings = Settings(config=config, simulator_url=simulator)
    assert [role for role in ROLES if name in child_environment(role, settings, {name: "x"}, [])] == ["worker"]


@pytest.mark.parametrize("name", ["ONCEQ_DASHBOARD_SECRETS", "ONCEQ_DASHBOARD_HOSTS"])
def test_what_the_dashboard_reads_beside_the_settings_reaches_it_alone(name: str) -> None:
    assert [role for role in ROLES if name in child_environment(role, Settings(), {name: "x"}, [])] == ["dashboard"]


def test_the_dashboard_does_not_learn_where_redis_is() -> None:
    settings = Settings(redis_url="redis://:password@host")
    assert "password" not in str(child_environment("dashboard", settings, {}, []))
    assert "password" in child_environment("api", settings, {}, [])["ONCEQ_REDIS_URL"]


def test_settings_reach_a_child_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(queue="q", cors_origins=["https://a.test"], log_json=True, lease_s=7.5, data_dir=Path("/d"))
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings


def test_settings_of_this_process_win_over_what_it_was_started_with() -> None:
    env = child_environment("api", Settings(queue="mine"), SECRETS, [])
    assert env["ONCEQ_QUEUE"] == "mine"
    assert env[SUPERVISED] == "1"
