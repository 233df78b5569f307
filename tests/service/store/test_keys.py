"""API keys as the store makes them."""

from __future__ import annotations

import pytest

from onceq_service.store import Store


@pytest.mark.parametrize("tenant", ["", "a:b", "a\n", "x" * 65])
async def test_no_key_is_made_for_a_tenant_that_could_not_be_told_from_others(store: Store, tenant: str) -> None:
    with pytest.raises(ValueError, match="a tenant is 1 to 64 letters"):
        await store.keys.create(tenant=tenant, name="n", scopes=["read"])
    assert await store.keys.list() == []
