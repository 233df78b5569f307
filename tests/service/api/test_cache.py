"""What is kept for a moment: one making for all who ask meanwhile, and no failure."""

from __future__ import annotations

import asyncio

import pytest

from onceq_service.api.cache import TtlCache
from onceq_service.store import StoreUnavailable


async def test_who_asks_meanwhile_shares_one_making_and_who_asks_later_gets_it_too() -> None:
    kept, made = TtlCache[int](60), 0

    async def make() -> int:
        nonlocal made
        made += 1
        await asyncio.sleep(0)
        return made

    assert await asyncio.gather(*(kept.get("a", make) for _ in range(3))) == [1, 1, 1]
    assert await kept.get("a", make) == 1
    assert await kept.get("b", make) == 2


async def test_a_failure_is_told_to_those_who_waited_for_it_and_not_kept() -> None:
    kept, away = TtlCache[str](60), True

    async def make() -> str:
        await asyncio.sleep(0)
        if away:
            raise StoreUnavailable("Redis is away")
        return "made"

    failures = await asyncio.gather(*(kept.get("a", make) for _ in range(2)), return_exceptions=True)
    assert [type(failure) for failure in failures] == [StoreUnavailable] * 2
    with pytest.raises(StoreUnavailable):
        await kept.get("a", make)
    away = False
    assert await kept.get("a", make) == "made"
