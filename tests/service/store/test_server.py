"""What kind of Redis this is, also by a user that may not ask everything."""

from __future__ import annotations

import pytest

from onceq_service.embedded.redis_server import EmbeddedRedis
from onceq_service.store import ServerFacts, StoreDenied, open_store
from tests.redis_user import as_user


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
