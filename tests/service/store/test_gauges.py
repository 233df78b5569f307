"""What an operator watches is what the scripts did: counted once, over all tenants, real and simulated apart."""

from __future__ import annotations

import asyncio
from typing import Any

from onceq_service.store import Store
from onceq_service.store.engine import End, Receipt
from onceq_service.store.gauges import Reading, Series
from tests.service.store.driver import PAID, admission, claim_one, dispatch, success

BROKEN = Receipt("stream_broken", billed=True, estimated=True, input_tokens=3, output_tokens=1, spent_nano_usd=4_000)
REAL = Series("openai", "standard", simulated=False)
FAILED = End(
    state="failed", rest=b',"error":{"code":"provider_rejected","message":"no","retryable":false}', output=b"",
    receipt=Receipt("provider_rejected", billed=False), kept=False, first_seq=0,
)  # fmt: skip


async def read(store: Store) -> Reading:
    return await store.gauges.read(86_400)


async def answer(store: Store, **changes: Any) -> None:
    await store.jobs.admit(admission(**changes))
    claim = await claim_one(store)
    sent = await dispatch(store, claim)
    await store.engine.finish(claim, success(sent.seq + 1))


async def fail(store: Store, **changes: Any) -> str:
    job_id = (await store.jobs.admit(admission(**changes))).id
    claim = await claim_one(store)
    await dispatch(store, claim)
    await store.engine.finish(claim, FAILED)
    return job_id


async def test_counters_sum_all_tenants_and_keep_simulated_work_and_bands_apart(store: Store) -> None:
    await answer(store, tenant="a")
    await answer(store, tenant="b")
    await answer(store, tenant="a", simulated=True)
    await answer(store, tenant="a", band="batch")
    counters = (await read(store)).counters
    assert set(counters) == {
        REAL, Series("openai", "standard", simulated=True), Series("openai", "batch", simulated=False),
    }  # fmt: skip
    sums = counters[REAL]
    assert (sums["jobs"], sums["succeeded"], sums["calls"], sums["spent"]) == (2, 2, 2, 14_000)
    assert counters[Series("openai", "standard", simulated=True)]["spent"] == 7_000


async def test_counters_tell_waste_and_what_was_avoided(store: Store) -> None:
    await store.jobs.admit(admission(fp="same"))
    first = await claim_one(store)
    await dispatch(store, first)
    await store.engine.requeue(first, BROKEN, delay_s=0, reason="stream_broken")
    again = await claim_one(store)
    sent = await dispatch(store, again, 2)
    await store.engine.finish(again, success(sent.seq + 1, receipt=PAID))
    await store.jobs.admit(admission(fp="same"))
    sums = (await read(store)).counters[REAL]
    assert (sums["spent"], sums["wasted"], sums["avoided"], sums["tries"]) == (11_000, 4_000, 7_000, 2)
    assert (sums["jobs"], sums["replayed"]) == (1, 1)


async def test_a_band_says_how_many_wait_and_since_when_the_oldest_could_have_started(store: Store) -> None:
    assert all(band.jobs == 0 and band.oldest_s == 0 for band in (await read(store)).waiting.values())
    later = round(await store.stats.now_ms() + 3_600_000)
    await store.jobs.admit(admission(band="batch", not_before_ms=later, deadline_s=86_400.0))
    await store.jobs.admit(admission())
    await asyncio.sleep(0.05)
    waiting = (await read(store)).waiting
    assert {band: one.jobs for band, one in waiting.items()} == {"interactive": 0, "standard": 1, "batch": 1}
    assert waiting["batch"].oldest_s == 0, "what may not start yet is not late"
    assert waiting["standard"].oldest_s >= 0.05
    claim = await claim_one(store)
    taken = await read(store)
    assert (taken.waiting["standard"].jobs, taken.running, taken.delayed) == (0, 1, 1)
    await store.engine.release(claim)
    assert (await read(store)).waiting["standard"].oldest_s >= 0.05, (
        "it waits since it came, not since it was handed back"
    )


async def test_a_dead_letter_of_any_tenant_counts_until_it_is_replayed(store: Store) -> None:
    first, _ = await fail(store, tenant="a"), await fail(store, tenant="b")
    reading = await read(store)
    assert reading.dead_letters == 2
    assert reading.counters[REAL]["e:provider_rejected"] == 2
    await store.jobs.admit(admission(tenant="a", retry_of=first))
    assert (await read(store)).dead_letters == 1


async def test_a_dead_letter_whose_result_has_lapsed_counts_no_more(store: Store) -> None:
    await fail(store)
    await asyncio.sleep(0.01)
    assert (await store.gauges.read(0)).dead_letters == 0


async def test_streams_are_those_of_all_api_processes_that_live(store: Store) -> None:
    await store.gauges.say_api("one", 3)
    await store.gauges.say_api("two", 4)
    await store.gauges.say_api("one", 2)
    assert sorted((await read(store)).streams) == [2, 4]
    await store.gauges.forget_api("two")
    assert (await read(store)).streams == [2]


async def test_an_expired_or_cancelled_job_waits_no_more(store: Store) -> None:
    job_id = (await store.jobs.admit(admission())).id
    assert await store.jobs.cancel(job_id, "t") == "cancelled"
    assert (await read(store)).waiting["standard"].jobs == 0
