"""What kind of Redis this is, also by a user that may not ask everything."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from onceq_service.embedded.redis_binary import find_redis
from onceq_service.embedded.redis_server import EmbeddedRedis
from onceq_service.store import ServerFacts, StoreDenied, StoreUnavailable, open_store
from tests.redis_user import as_user
from tests.stack import running_redis
from tests.waiting import wait_until


async def facts_for(redis: EmbeddedRedis, name: str, rules: str) -> ServerFacts:
    async with open_store(as_user(redis, name, rules)) as store:
        return await store.inspect()


async def test_a_user_that_may_read_the_configuration_is_told_all(redis_server: EmbeddedRedis) -> None:
    facts = await facts_for(redis_server, "reads", "+@all -config +config|get")
    assert (facts.appendonly, facts.appendfsync, facts.durability) == (True, "always", "strict")


async def test_what_a_user_may_not_know_is_no_no_and_no_promise(redis_server: EmbeddedRedis) -> None:
    facts = await facts_for(redis_server, "asks", "+@all -config")
    assert (facts.appendonly, facts.appendfsync, facts.maxmemory_policy) == (True, None, "noeviction")
    assert facts.durability == "relaxed"
    [problem] = facts.problems
    assert "may not CONFIG GET appendfsync: grant +config|get" in problem


async def test_a_user_that_may_not_ask_at_all_is_denied_with_the_reason(redis_server: EmbeddedRedis) -> None:
    with pytest.raises(StoreDenied, match=r"may not do what onceq needs \(NOPERM .*info.*ACL SETUSER"):
        await facts_for(redis_server, "mute", "+@all -info")


async def test_a_user_whose_script_may_not_write_is_denied(redis_server: EmbeddedRedis) -> None:
    async with open_store(as_user(redis_server, "reader", "+@all -zremrangebyscore -zrangebyscore -zrange")) as store:
        with pytest.raises(StoreDenied, match="may not do what onceq needs"):
            await store.engine.tend()


async def test_a_wrong_password_is_denied_and_is_in_no_word(redis_server: EmbeddedRedis) -> None:
    url = as_user(redis_server, "known", "+@all").replace("hidden-word", "hidden-wrong")
    async with open_store(url) as store:
        with pytest.raises(StoreDenied, match=r"refuses the user or the password of ONCEQ_REDIS_URL \(.+\)") as denied:
            await store.ping()
    assert "hidden" not in str(denied.value)


async def test_keys_of_others_in_its_database_are_told(redis_server: EmbeddedRedis) -> None:
    url = f"{redis_server.url}?db=9"
    other = Redis.from_url(url)  # pyright: ignore[reportUnknownMemberType] - untyped arguments
    async with open_store(url, "alone") as store, other:
        await store.hasher()
        assert not (await store.inspect()).shared
        await other.set("session:42", "of a cache")
        facts = await store.inspect()
        await other.delete("session:42")
    assert facts.shared
    assert any("has keys of others" in said for said in facts.degraded)
    assert facts.durability == "strict"


async def test_a_redis_that_loads_its_data_says_nothing_of_itself_yet(tmp_path: Path) -> None:
    """It tells that it has no AOF while it reads that, so for a moment jobs were told to be less safe than they are."""
    socket = tmp_path / "s"
    with running_redis() as redis:
        async with Redis.from_url(redis.url) as client, client.pipeline(transaction=False) as pipe:  # pyright: ignore[reportUnknownMemberType]
            for n in range(15_000):
                pipe.set(f"k{n}", n)
            await pipe.execute()
        redis.stop()
        with again_slowly(redis, socket):
            said = await first_words(socket)
    assert said[0] == "Redis takes no commands now (it is loading its data); try again shortly."
    assert said[-1] == "strict"
    assert "relaxed" not in said


@contextmanager
def again_slowly(redis: EmbeddedRedis, socket: Path) -> Generator[None]:
    """A server on the same data, for whose loading one has time to look; it hears others every 1,024 keys."""
    options = {
        "dir": redis.data_dir / "redis", "unixsocket": socket, "port": 0, "appendonly": "yes", "appendfsync": "always",
        "key-load-delay": 200,
    }  # fmt: skip
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    with subprocess.Popen([find_redis().path, *words], stdout=subprocess.DEVNULL) as server:
        try:
            yield
        finally:
            server.terminate()


async def first_words(socket: Path) -> list[str]:
    """What a store says of a Redis from when it listens until it has a word on how durable a job is."""
    said: list[str] = []
    wait_until(socket.exists, "Redis to listen")
    async with open_store(f"unix://{socket}") as store:
        while not said or said[-1] not in ("strict", "relaxed"):
            try:
                said.append((await store.inspect()).durability)
            except StoreUnavailable as exc:
                said.append(str(exc))
            await asyncio.sleep(0.01)
    return said
