"""The showroom's month is what the product would have written: its sums, its lifetimes, and who may write a past."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import accumulate, chain, count
from typing import Any
from uuid import uuid4

import pytest

from onceq.errors import ConfigurationError
from onceq.wire import BudgetStatus, Job, LedgerEntry, Totals
from onceq_service.embedded.redis_server import EmbeddedRedis
from onceq_service.providers import ProviderError
from onceq_service.settings import Settings, load_settings
from onceq_service.showroom import world
from onceq_service.showroom.fill import Filled, fill
from onceq_service.showroom.provider import Course, course
from onceq_service.store import Filter, Retention, Store, StoreError, open_store, scripts
from onceq_service.store.backfill import open_backfill_store, with_time
from onceq_service.store.budgets import unpacked
from onceq_service.store.stats import totals
from tests.conftest import check_lifetimes
from tests.service.store.driver import admission

JOBS, TENANT = 1_000, "default"  # with fewer, at some times of the day no job meets an incident
DAY = timedelta(days=1)
SLOTS = 4
YOUNG = timedelta(hours=3)
"""A calendar month of less has hardly any jobs, so that its budgets prove little; in its first hour it has none."""


def _settings(redis: EmbeddedRedis) -> Settings:
    return load_settings(
        redis_url=redis.url, queue=f"m{uuid4().hex[:10]}", simulator_url="http://127.0.0.1:9", result_ttl_s=20 * 86_400,
        label_keys=["prompt", "version"],
    )  # fmt: skip


def _fill(settings: Settings, until: datetime) -> Filled:
    return asyncio.run(fill(settings, JOBS, 3, until, lambda posts, at: None))


@pytest.fixture(scope="module")
def until() -> datetime:
    """A few minutes ago; while the calendar month is young, an hour before it: what was asked then has ended by now."""
    now = datetime.now(UTC)
    began = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return now - timedelta(minutes=3) if now - began >= YOUNG else began - timedelta(hours=1)


@pytest.fixture(scope="module")
def month(redis_server: EmbeddedRedis, until: datetime) -> Settings:
    settings = _settings(redis_server)
    filled = _fill(settings, until)
    assert filled.posts > JOBS * 0.8
    return settings


async def _ledger(store: Store) -> list[LedgerEntry]:
    rows: list[LedgerEntry] = []
    after, more = None, True
    while more:
        page = await store.ledger.page(TENANT, 0, 10**14, after, 1_000)
        rows, more = [*rows, *page.entries], page.more
        after = rows[-1].id
    return rows


async def _totals(store: Store, *by: str) -> Totals:
    now_ms = await store.stats.now_ms()
    spans = await store.stats.spans(TENANT, "d", now_ms - 32 * 86_400_000, now_ms, by)  # pyright: ignore[reportArgumentType] - by is names
    return totals(fields for span in spans for fields in span.fields)


async def test_a_worker_that_is_lost_long_after_its_last_word_leaves_no_job_running(
    redis_server: EmbeddedRedis, until: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = count()

    def slow(*of: Any) -> Course:  # so many and so slow that others are posted meanwhile, whatever the time of day
        found = course(*of)
        if found.error is not None or next(tries) % 10:
            return found
        return replace(found, lost=True, share=0.5, generation_ms=300_000)

    monkeypatch.setattr(world, "course", slow)
    settings = _settings(redis_server)
    await asyncio.to_thread(_fill, settings, until)
    async with open_store(settings.redis_url, settings.queue) as store:
        depth, sums = await store.stats.depth(TENANT), await _totals(store)
    assert depth.queued == depth.running == 0
    assert sums.wasted_by_reason["worker_lost"] > 0


@pytest.mark.parametrize("deadline_s", [2.0, 0.015])  # while some wait, and as many begin
async def test_a_month_ends_though_jobs_meet_their_deadline_before_their_call(
    redis_server: EmbeddedRedis, until: datetime, deadline_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = count()

    def throttled(
        *of: Any,
    ) -> Course:  # a lane is held back so often and for so long that others come, at any time of day
        if next(tries) % 10:
            return course(*of)
        refused = ProviderError("provider_rate_limited", "429", cause="refused", status=429, retry_after_s=3_000)
        return Course(20, 100, 0, 0, 0.0, refused)

    monkeypatch.setattr(world, "course", throttled)
    settings = _settings(redis_server).model_copy(update={"deadline_s": deadline_s})
    async with asyncio.timeout(300), open_store(settings.redis_url, settings.queue) as store:
        await fill(settings, JOBS, 3, until, lambda posts, at: None)
        depth, sums = await store.stats.depth(TENANT), await _totals(store)
    assert depth.queued == depth.running == 0
    assert sums.expired > 0


async def test_as_many_jobs_run_at_once_as_there_are_slots(
    redis_server: EmbeddedRedis, until: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def long(*of: Any) -> Course:  # so that more are posted than there are slots for
        return replace(course(*of), generation_ms=3_000_000)

    monkeypatch.setattr(world, "course", long)
    settings = _settings(redis_server)
    await asyncio.to_thread(_fill, settings, until)
    async with open_store(settings.redis_url, settings.queue, Retention(settings.result_ttl_s)) as store:
        depth, jobs = await store.stats.depth(TENANT), await _jobs(store)
    assert depth.queued == depth.running == 0
    assert max(accumulate(step for _, step in sorted(chain.from_iterable(map(_steps, jobs))))) == SLOTS


async def _jobs(store: Store) -> list[Job]:
    page = await store.jobs.list(TENANT, Filter(), cursor=None, limit=200)
    jobs = page.jobs
    while page.next_cursor:
        page = await store.jobs.list(TENANT, Filter(), cursor=page.next_cursor, limit=200)
        jobs += page.jobs
    return jobs


def _steps(job: Job) -> list[tuple[datetime, int]]:
    """When a job that was tried once began, and when it ended."""
    if job.tries != 1 or job.started_at is None or job.finished_at is None:
        return []
    return [(job.started_at, 1), (job.finished_at, -1)]


async def test_the_ledger_of_the_month_sums_up_to_its_rollups(month: Settings) -> None:
    async with open_store(month.redis_url, month.queue) as store:
        rows, sums = await _ledger(store), await _totals(store)
    assert sum(row.spent_nano_usd or 0 for row in rows) == sums.spent_nano_usd > 0
    assert sum(row.wasted_nano_usd for row in rows) == sums.wasted_nano_usd == sum(sums.wasted_by_reason.values())
    assert sum(row.billed for row in rows) == sums.calls
    assert len(rows) == sums.tries
    assert sum(row.output_tokens for row in rows if row.billed) == sums.output_tokens
    assert {row.simulated for row in rows} == {True}


async def test_every_job_of_the_month_has_ended_and_stands_in_the_list_of_its_state(month: Settings) -> None:
    async with open_store(month.redis_url, month.queue, Retention(month.result_ttl_s)) as store:
        sums, depth = await _totals(store), await store.stats.depth(TENANT)
        page = await store.jobs.list(TENANT, Filter(), cursor=None, limit=200)
    assert depth.queued == depth.running == 0
    assert sums.succeeded + sums.failed + sums.cancelled + sums.expired == sums.jobs
    for job in page.jobs:
        assert job.timings.phases is not None
        phases = job.timings.phases.model_dump()
        assert sum(round(1000 * s) for s in phases.values()) == round(1000 * (job.timings.total_s or 0)), job.id


async def test_jobs_older_than_their_results_have_lapsed_and_what_they_cost_has_not(
    month: Settings, until: datetime
) -> None:
    async with open_store(month.redis_url, month.queue) as store:
        rows = await _ledger(store)
        kept = until - timedelta(seconds=month.result_ttl_s)
        found = {row.job: await store.jobs.get(row.job, TENANT) for row in rows}
    old = [row for row in rows if row.at < kept - DAY]
    assert old
    assert all(found[row.job] is None for row in old)
    assert all(found[row.job] is not None for row in rows if row.at > kept + DAY)


async def test_every_key_of_the_month_has_its_lifetime(month: Settings) -> None:
    async with open_store(month.redis_url, month.queue) as store:
        await check_lifetimes(store)


async def test_the_month_has_something_of_everything(month: Settings) -> None:
    async with open_store(month.redis_url, month.queue) as store:
        rows, sums = await _ledger(store), await _totals(store)
    assert {row.model.partition("/")[0] for row in rows} == {"openai", "anthropic", "bedrock"}
    assert len({row.team for row in rows}) == 6
    assert len({row.key for row in rows}) == 6
    assert sums.retries
    assert sums.joined + sums.replayed
    assert {row.outcome for row in rows} & {"provider_error", "provider_rate_limited", "provider_unreachable"}


async def _budgets(store: Store, until: datetime) -> dict[str, BudgetStatus]:
    """As they stood at the end of the month that was written; since then their periods may have changed."""
    made = [unpacked(value) for value in (await store.budgets.made()).values()]
    return {one.name: one for one in await store.budgets.status(made, round(until.timestamp() * 1000))}


async def test_the_month_s_budgets_have_counted_what_the_ledger_says(month: Settings, until: datetime) -> None:
    async with open_store(month.redis_url, month.queue) as store:
        rows, found = await _ledger(store), await _budgets(store, until)
    whole, sweeps = found["everything"], found["sweeps"]
    assert whole.period_start is not None
    since = whole.period_start.timestamp() * 1000
    ended_in_it = sum(row.spent_nano_usd or 0 for row in rows if row.at.timestamp() * 1000 >= since)
    made_in_it = sum(row.spent_nano_usd or 0 for row in rows if int(row.job[4:16], 16) >= since)
    assert 0 < made_in_it <= whole.simulated_use.spent_nano_usd <= ended_in_it
    of_loop = sum(row.spent_nano_usd or 0 for row in rows if row.labels.get("prompt") == "sweep")
    assert sweeps.simulated_use.spent_nano_usd == of_loop > 0
    assert all(one.use.spent_nano_usd == one.simulated_use.reserved_nano_usd == 0 for one in found.values())


async def test_each_of_the_month_s_budgets_tells_its_story(month: Settings, until: datetime) -> None:
    async with open_store(month.redis_url, month.queue) as store:
        found = await _budgets(store, until)
    uses = {name: one.simulated_use for name, one in found.items()}
    assert uses["sweeps"].refused_posts > 0, "a hard one stopped the loop"
    assert uses["sweeps"].left_nano_usd >= 0
    assert uses["everything"].left_nano_usd > 0.2 * found["everything"].limit_nano_usd, "there is room"
    assert not uses["everything"].refused_posts
    assert {bool(one.team) for one in found.values()} == {bool(one.key) for one in found.values()} == {True, False}
    assert {bool(one.model) for one in found.values()} == {bool(one.labels) for one in found.values()} == {True, False}


async def test_the_same_seed_and_times_make_the_same_month(
    redis_server: EmbeddedRedis, month: Settings, until: datetime
) -> None:
    again = _settings(redis_server)
    await asyncio.to_thread(_fill, again, until)
    async with open_store(month.redis_url, month.queue) as one, open_store(again.redis_url, again.queue) as other:
        assert (await _totals(one)).model_dump() == (await _totals(other)).model_dump()


async def test_nobody_can_tell_the_time_to_a_queue_that_has_been_used(
    redis_server: EmbeddedRedis, store: Store
) -> None:
    await store.hasher()  # as every process of the API begins
    with pytest.raises(ConfigurationError, match="has been used"):
        async with open_backfill_store(redis_server.url, store.redis_keys.root[7:-2], 1):
            raise AssertionError("it was opened")


async def test_a_told_script_does_nothing_on_a_queue_that_is_not_told_the_time(store: Store) -> None:
    pipe, last_year = store._pipe, 1_700_000_000_000  # pyright: ignore[reportPrivateUsage] - what an intruder would do
    for script in scripts.ALL:
        with pytest.raises(StoreError, match="hears the time from nobody"):
            await pipe.script(with_time(script), store.redis_keys.root, ["x", "y", last_year])
    assert await pipe.command("KEYS", store.redis_keys.root + "*") == []


async def test_a_queue_is_told_the_time_no_longer_when_its_past_is_written(redis_server: EmbeddedRedis) -> None:
    queue = f"m{uuid4().hex[:10]}"
    async with open_backfill_store(redis_server.url, queue, 1_700_000_000_000) as past:
        await past.jobs.admit(admission())
        await past.close()
        with pytest.raises(StoreError, match="hears the time from nobody"):
            await past.jobs.admit(admission("again"))
    with pytest.raises(ConfigurationError, match="has been used"):
        async with open_backfill_store(redis_server.url, queue, 1_700_000_000_000):
            raise AssertionError("it was opened again")


async def test_a_key_whose_lifetime_was_taken_back_is_there_for_as_long_as_it_is_told(
    redis_server: EmbeddedRedis,
) -> None:
    """A batch's log lapses when all jobs have ended, and stays when another one comes."""
    begin_ms = 1_700_000_000_000
    async with open_backfill_store(redis_server.url, f"m{uuid4().hex[:10]}", begin_ms) as past:
        for days in (0, 2):
            made = await past.jobs.admit(admission(f"{days}", batch="b"))
            past.set_time(begin_ms + days * 86_400_000)
            await past.jobs.cancel(made.id, "t")
        log = past.redis_keys("batch", "t", "b")
        entries = await past._pipe.command("XRANGE", log, "-", "+")  # pyright: ignore[reportPrivateUsage]
        assert [number for number, _ in entries] == [b"0-1", b"0-2"]
        await past.close()
