"""An address that can not be used is refused in one sentence, by however many processes, before any of them starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from redis import ConnectionPool

from onceq.errors import ConfigurationError
from onceq_service.addresses import REDIS_OPTIONS
from onceq_service.settings import load_settings, read_config
from onceq_service.store._pipe import connect
from tests.service.cli.conftest import Shell

HOMES = {"redis": "redis://:hidden@x/0", "rediss": "rediss://:hidden@x", "unix": "unix://u:hidden@/redis.sock"}
VALUES = {"protocol": "2", "ssl_cert_reqs": "none"}
"""Options of which 1 is no value."""


@pytest.mark.parametrize("command", ["api", "worker"])
@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("CORS_ORIGINS", '["*"]', "names exact origins"),
        ("SIMULATOR_URL", "nonsense", ""),
        ("LEASE_S", "inf", ""),
        ("REDIS_URL", "redis://x/0?nonsense=1", "has an option that there is not"),
    ],
)
def test_what_a_setting_can_not_be_is_one_sentence_of_all_processes(
    tmp_path: Path, command: str, name: str, value: str, told: str
) -> None:
    several = {"ONCEQ_API_PROCESSES": "2", "ONCEQ_WORKER_PROCESSES": "2", "ONCEQ_PORT": "0"}
    done = Shell(tmp_path, **several, **{f"ONCEQ_{name}": value})(command)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"not usable: ONCEQ_{name}: {told}" in done.stderr


@pytest.mark.parametrize("origin", ["*", "https://*.example.com", "https://a.test/", "a.test", "https://a.test/x", ""])
def test_an_origin_that_no_browser_sends_is_refused(origin: str) -> None:
    with pytest.raises(ConfigurationError, match="ONCEQ_CORS_ORIGINS: names exact origins"):
        load_settings(cors_origins=["https://a.test", origin])


@pytest.mark.parametrize(
    "origin", ["https://a.test", "http://localhost:3000", "http://[::1]:8080", "moz-extension://a"]
)
def test_an_origin_that_a_browser_sends_is_taken(origin: str) -> None:
    assert load_settings(cors_origins=[origin]).cors_origins == [origin]


@pytest.mark.parametrize("line", ['base_url = "http://host:port/v1"', 'base_url = "http://[x"', 'region = "us east"'])
def test_a_provider_s_address_that_its_client_would_not_take_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "onceq.toml").write_text(f'[providers.own]\nkind = "bedrock"\n{line}\n')
    with pytest.raises(ConfigurationError, match=rf"onceq\.toml can't be used: providers\.own\.{line.split()[0]}: "):
        read_config(tmp_path / "onceq.toml")


@pytest.mark.parametrize(
    ("scheme", "query", "told"),
    [
        ("redis", "nonsense=1", "there are username, "),
        ("unix", "socket_keepalive=1", "for unix:// there are username, "),
        ("redis", "ssl_ca_certs=/ca.pem", "are rediss://'s alone"),
        ("redis", "decode_responses=1", "has an option that there is not"),
        ("redis", "socket_timeout=abc", "no usable value for its option socket_timeout"),
        ("redis", "socket_connect_timeout=0", "for its option socket_connect_timeout"),
        ("unix", "db=x", "no usable value for its option db"),
        ("redis", "db=-1", "no usable value for its option db"),
        ("rediss", "ssl_cert_reqs=maybe", "no usable value for its option ssl_cert_reqs"),
    ],
)
def test_an_option_of_redis_s_url_that_can_not_be_used_is_told(scheme: str, query: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match="a setting is not usable: ONCEQ_REDIS_URL: has ") as refused:
        load_settings(redis_url=f"{HOMES[scheme]}?{query}")
    assert told in str(refused.value)
    assert "hidden" not in str(refused.value)


def test_a_database_has_a_number() -> None:
    with pytest.raises(ConfigurationError, match="a path that is no number of a database"):
        load_settings(redis_url="redis://x/main")


@pytest.mark.parametrize("scheme", REDIS_OPTIONS)
def test_every_option_is_one_that_both_of_redis_py_s_clients_take(scheme: str) -> None:
    options = "&".join(f"{name}={VALUES.get(name, '1')}" for name in REDIS_OPTIONS[scheme])
    url = load_settings(redis_url=f"{HOMES[scheme]}?{options}").redis_url
    pool: Any = ConnectionPool.from_url(url)  # pyright: ignore[reportUnknownMemberType] - redis-py: untyped kwargs
    awaiting: Any = connect(url, connections=2).connection_pool
    assert [one.make_connection().db for one in (pool, awaiting)] == [1, 1]
