"""Job lists: every filter finds what fits and nothing else, page by page, and no page does more than bounded work."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from onceq.wire import JobPage
from onceq_service.embedded.redis_server import EmbeddedRedis
from onceq_service.store import Filter, Store, open_store
from onceq_service.store.engine import End, Receipt
from onceq_service.store.find import LOOK, MOST_LOOKED
from tests.service.store.driver import admission, claim_one, dispatch, success
from tests.service.store.timed import later

LABELS = b'{"prompt":"memo","version":"v2"}'


async def _ended(store: Store, *, failed: bool = False, **fields: Any) -> str:
    made = admission(**fields)
    await store.jobs.admit(made)
    claim = await claim_one(store)
    await dispatch(store, claim)
    end = success()
    if failed:
        end = End("failed", b',"error":{"code":"provider_error","message":"m","retryable":true}', b"",
                  Receipt("provider_error", billed=False), False, 0)  # fmt: skip
    await store.engine.finish(claim, end)
    return made.id


async def _pages(store: Store, where: Filter, limit: int = 2) -> list[JobPage]:
    pages: list[JobPage] = []
    cursor = None
    while not pages or cursor:
        pages.append(await store.jobs.list("t", where, cursor=cursor, limit=limit))
        cursor = pages[-1].next_cursor
    return pages


async def _ids(store: Store, where: Filter) -> list[str]:
    return [job.id for page in await _pages(store, where) for job in page.jobs]


async def test_each_filter_finds_the_jobs_that_fit_and_no_others(timed: Store) -> None:
    plain = await _ended(timed)
    await later(timed, 0.001)
    other = await _ended(
        timed, failed=True, team="blue", user="ada", band="batch", labels=LABELS, key_id="key_2", model="openai/n",
        lane="openai/n",
    )  # fmt: skip
    ended = Filter(status="failed", replayed=False)
    fits = (
        Filter(team="blue"), Filter(user="ada"), Filter(band="batch"), Filter(key="key_2"),
        Filter(models=["x/y", "openai/n"]), Filter(error="provider_error"), Filter(verdict="provider_slow"),
        Filter(labels=[("version", "v2")]), Filter(labels=[("version", "v2"), ("prompt", "memo")]), ended,
        replace(ended, team="blue", user="ada"),
    )  # fmt: skip
    for where in fits:
        assert await _ids(timed, where) == [other], where
    nothing = (
        Filter(team="blu"), Filter(labels=[("version", "v2"), ("prompt", "x")]), Filter(labels=[("absent", "v2")]),
        Filter(labels=[("version", "v1"), ("version", "v2")]),
        Filter(user="ada", status="succeeded"), replace(ended, replayed=True), Filter(verdict="queue"),
        Filter(error="provider"),
    )  # fmt: skip
    for where in nothing:
        assert await _ids(timed, where) == [], where
    assert await _ids(timed, Filter()) == [other, plain]


async def test_since_and_until_are_both_included(store: Store) -> None:
    ids = [await _ended(store) for _ in range(3)]
    made = [job.created_at for job_id in ids if (job := await store.jobs.get(job_id, "t"))]
    assert ids[1] in await _ids(store, Filter(since=made[1], until=made[1]))
    assert await _ids(store, Filter(until=made[0] - timedelta(milliseconds=1))) == []
    assert await _ids(store, Filter(since=made[2] + timedelta(milliseconds=1))) == []


async def test_jobs_of_one_millisecond_are_paged_through_without_gap_or_repeat(store: Store) -> None:
    made = [admission(id=f"job_{n:032x}") for n in range(25)]
    for one in made:
        await store.jobs.admit(one)
    for one in made:  # as if they had all come at once
        await store.jobs._pipe.command("ZADD", store.redis_keys("index", "t", "queued"), 5_000, one.id)  # pyright: ignore[reportPrivateUsage] - makes the tie
    assert await _ids(store, Filter()) == [one.id for one in reversed(made)]


async def test_a_job_that_has_lapsed_is_passed_over(store: Store) -> None:
    kept, gone, last = [await _ended(store) for _ in range(3)]
    await store.jobs._pipe.command("DEL", store.redis_keys("job", gone))  # pyright: ignore[reportPrivateUsage] - its time is over
    assert await _ids(store, Filter()) == [last, kept]


async def test_a_tenant_finds_its_own_jobs_alone(store: Store) -> None:
    await _ended(store, team="blue")
    page = await store.jobs.list("other", Filter(team="blue"), cursor=None, limit=10)
    assert (page.jobs, page.next_cursor, page.looked_at) == ([], None, 0)


async def _many(store: Store, number: int) -> None:
    """So many jobs of nobody's in the index, newer than all others: only what a filter looks at is there."""
    pipe = store.jobs._pipe  # pyright: ignore[reportPrivateUsage] - to make thousands in no time
    later = round((datetime.now(UTC) + timedelta(hours=1)).timestamp() * 1000)
    for n in range(number):
        job_id = f"job_{later + n:012x}{0:020x}"
        fields = {"tenant": "t", "state": "succeeded", "created_ms": later + n, "model": "m", "band": "batch"}
        flat = [word for pair in (fields | {"calls": 0, "tries": 0, "output": "{}"}).items() for word in pair]
        pipe.command("HSET", store.redis_keys("job", job_id), *flat)
        last = pipe.command("ZADD", store.redis_keys("index", "t", "succeeded"), later + n, job_id)
        if n % 100 == 99 or n == number - 1:
            await last


async def _touched(store: Store, what: Callable[[], Awaitable[object]]) -> dict[str, int]:
    """How many commands of each kind Redis ran meanwhile, those of scripts too."""
    pipe = store.jobs._pipe  # pyright: ignore[reportPrivateUsage] - to read Redis's own counts

    async def counts() -> dict[str, int]:
        info = cast("bytes", await pipe.command("INFO", "commandstats")).decode()
        pairs = [line.split(":calls=") for line in info.splitlines() if ":calls=" in line]
        return {name.removeprefix("cmdstat_"): int(rest.split(",")[0]) for name, rest in pairs}

    before = await counts()
    await what()
    return {name: n - before.get(name, 0) for name, n in (await counts()).items() if n > before.get(name, 0)}


@pytest.fixture
async def alone(tmp_path: Path, queue: str) -> AsyncGenerator[Store]:
    """A store on a Redis that runs nobody else's commands, so that they can be counted."""
    with EmbeddedRedis(tmp_path) as redis:
        async with open_store(redis.url, queue) as opened:
            yield opened


async def test_a_rare_job_behind_thousands_is_found_by_pages_of_bounded_work_that_say_how_far_they_looked(
    alone: Store,
) -> None:
    store = alone
    rare = await _ended(store, user="ada")
    await _many(store, MOST_LOOKED + LOOK)
    first = await store.jobs.list("t", Filter(user="ada"), cursor=None, limit=50)
    assert first.jobs == []
    assert first.next_cursor is not None
    assert first.looked_at == MOST_LOOKED
    second = await store.jobs.list("t", Filter(user="ada"), cursor=first.next_cursor, limit=50)
    assert [job.id for job in second.jobs] == [rare]
    assert second.looked_at == LOOK + 1
    assert first.looked_back_to is not None
    assert second.looked_back_to == second.jobs[0].created_at < first.looked_back_to

    touched = await _touched(store, lambda: store.jobs.list("t", Filter(user="ada"), cursor=None, limit=50))
    assert touched["hmget"] <= MOST_LOOKED
    assert touched["evalsha"] == MOST_LOOKED // LOOK
    plain = await _touched(store, lambda: store.jobs.list("t", Filter(), cursor=None, limit=50))
    assert plain["hmget"] == 2 * 50  # whether it is there, and what is shown of it
    assert plain["evalsha"] == 1


@pytest.mark.parametrize("cursor", ["x", "5", "-", "5-", "1e3-job_1", "9" * 30 + "-job_1"])
async def test_a_cursor_that_no_page_gave_is_refused(store: Store, cursor: str) -> None:
    with pytest.raises(ValueError, match="cursor"):
        await store.jobs.list("t", Filter(), cursor=cursor, limit=1)
