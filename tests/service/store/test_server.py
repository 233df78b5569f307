"""What kind of Redis this is, also by a user that may not ask everything."""

from __future__ import annotations

from onceq_service.embedded.redis_server import EmbeddedRedis
from onceq_service.store import ServerFacts, open_store
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
