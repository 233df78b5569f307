"""API keys as the store makes them."""

from __future__ import annotations

import pytest

from onceq_service.store import Store, StoreFull, open_store
from tests.stack import running_redis


@pytest.mark.parametrize("tenant", ["", "a:b", "a\n", "x" * 65])
async def test_no_key_is_made_for_a_tenant_that_could_not_be_told_from_others(store: Store, tenant: str) -> None:
    with pytest.raises(ValueError, match="a tenant is 1 to 64 letters"):
        await store.api_keys.create(tenant=tenant, name="n", scopes=["read"])
    assert await store.api_keys.list() == []


async def test_a_key_is_revoked_where_redis_takes_nothing_more() -> None:
    with running_redis() as redis:
        async with open_store(redis.url) as store:
            made, secret = await store.api_keys.create(tenant="t", name="n", scopes=["read"])
            await store._pipe.command("CONFIG", "SET", "maxmemory", 1)  # pyright: ignore[reportPrivateUsage]
            with pytest.raises(StoreFull):
                await store.api_keys.create(tenant="t", name="more", scopes=["read"])
            assert await store.api_keys.revoke(made.id)
            assert await store.api_keys.find(secret) is None
            assert await store.api_keys.revoked() == {made.id}


async def test_a_key_that_there_is_not_is_no_revoked_one(store: Store) -> None:
    assert not await store.api_keys.revoke("key_0")
    assert await store.api_keys.revoked() == set()
