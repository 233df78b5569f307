"""The ledger of each tenant by time: pages, walls, and what has left it."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from onceq_service.embedded.redis_server import EmbeddedRedis
from onceq_service.store import Store
from tests.service.store.driver import admission, claim_one, dispatch, success

FAR_MS = 10**14


async def book(store: Store, tenant: str = "t") -> str:
    job_id = (await store.jobs.admit(admission(tenant=tenant))).id
    claim = await claim_one(store)
    sent = await dispatch(store, claim)
    await store.engine.finish(claim, success(sent.seq + 1))
    return job_id


async def test_pages_behind_each_other_have_every_row_once_in_the_order_of_booking(store: Store) -> None:
    jobs = [await book(store) for _ in range(5)]
    seen: list[str] = []
    after, more = None, True
    while more:
        page = await store.ledger.page("t", 0, FAR_MS, after, 2)
        seen += [entry.job for entry in page.entries]
        after, more = page.entries[-1].id, page.more
    assert seen == jobs


async def test_a_range_has_its_begin_and_not_its_end(store: Store) -> None:
    await book(store)
    [row] = (await store.ledger.page("t", 0, FAR_MS, None, 9)).entries
    at_ms = int(row.id.split("-")[0])
    assert round(row.at.timestamp() * 1000) == at_ms
    assert len((await store.ledger.page("t", at_ms, at_ms + 1, None, 9)).entries) == 1
    assert (await store.ledger.page("t", 0, at_ms, None, 9)).entries == []
    assert (await store.ledger.page("t", at_ms + 1, FAR_MS, None, 9)).entries == []


async def test_a_cursor_before_the_range_does_not_widen_it(store: Store) -> None:
    for _ in range(3):
        await book(store)
    first, _, last = (await store.ledger.page("t", 0, FAR_MS, None, 9)).entries
    at_ms = int(last.id.split("-")[0])
    found = (await store.ledger.page("t", at_ms, FAR_MS, first.id, 9)).entries
    assert all(int(row.id.split("-")[0]) >= at_ms for row in found)
    assert found[-1] == last
    assert (await store.ledger.page("t", 0, FAR_MS, last.id, 9)).entries == []


async def test_a_tenant_has_a_ledger_of_its_own(store: Store) -> None:
    mine, other = await book(store), await book(store, "other")
    assert [e.job for e in (await store.ledger.page("t", 0, FAR_MS, None, 9)).entries] == [mine]
    assert [e.job for e in (await store.ledger.page("other", 0, FAR_MS, None, 9)).entries] == [other]
    assert (await store.ledger.page("nobody", 0, FAR_MS, None, 9)).entries == []


async def test_what_has_left_the_ledger_is_told(store: Store, redis_server: EmbeddedRedis) -> None:
    for _ in range(3):
        await book(store)
    before = await store.ledger.page("t", 0, FAR_MS, None, 9)
    assert before.kept_since_ms is None
    async with Redis.from_url(redis_server.url) as redis:  # pyright: ignore[reportUnknownMemberType]
        await redis.execute_command("XTRIM", store.redis_keys("ledger", "t"), "MAXLEN", 1)  # pyright: ignore[reportUnknownMemberType]
    left = await store.ledger.page("t", 0, FAR_MS, None, 9)
    assert left.kept_since_ms == int(before.entries[-1].id.split("-")[0])


@pytest.mark.parametrize("cursor", ["", "x", "1", "1-", "-1", "1-0 +", "(1-0"])
async def test_a_cursor_that_is_no_rows_id_is_refused(store: Store, cursor: str) -> None:
    with pytest.raises(ValueError, match="not an id"):
        await store.ledger.page("t", 0, FAR_MS, cursor, 9)


async def test_rows_keep_their_order_when_the_clock_goes_back(store: Store, redis_server: EmbeddedRedis) -> None:
    async with Redis.from_url(redis_server.url) as redis:  # pyright: ignore[reportUnknownMemberType]
        later = await store.stats.now_ms() + 3_600_000
        probe = await book(store)
        again = "return redis.call('XADD', KEYS[1], ARGV[1], unpack(redis.call('XRANGE', KEYS[1], '-', '+')[1][2]))"
        await redis.execute_command("EVAL", again, 1, store.redis_keys("ledger", "t"), f"{later}-0")  # pyright: ignore[reportUnknownMemberType]
    behind = await book(store)
    assert [e.job for e in (await store.ledger.page("t", 0, FAR_MS, None, 9)).entries] == [probe, probe, behind]
