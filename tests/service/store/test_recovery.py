"""Leases that run out, deadlines that pass: the store recovers without any worker."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from onceq.wire import Job
from onceq_service.store import Store
from onceq_service.store.engine import Claim, Receipt
from onceq_service.store.stats import ledger_rows, totals
from tests.service.store.driver import admission, claim_one, dispatch, names, read_log, success, text_frame
from tests.service.store.timed import lived_long
from tests.waiting import until


async def ended(store: Store, job_id: str) -> Job:
    async def look() -> Job | None:
        await store.engine.tend()
        job = await store.jobs.get(job_id, "t")
        return job if job is not None and job.finished_at is not None else None

    return await until(look, f"the end of {job_id}")


async def reclaimed(store: Store) -> Claim:
    async def look() -> list[Claim] | None:
        await store.engine.tend()
        return (await store.engine.claim("w2", 1, ["openai"]))[0] or None

    return (await until(look, "the job to be claimed again"))[0]


async def test_a_claimed_job_of_a_dead_worker_runs_again_for_free(brief: Store) -> None:
    made = await brief.jobs.admit(admission())
    await claim_one(brief)
    again = await reclaimed(brief)
    await dispatch(brief, again)
    await brief.engine.finish(again, success(again.number("seq") + 2))
    job = await ended(brief, made.id)
    assert (job.status, job.calls, job.cost.wasted_nano_usd) == ("succeeded", 1, 0)


async def test_a_dispatched_job_of_a_dead_worker_is_called_again_and_the_loss_is_booked(brief: Store) -> None:
    made = await brief.jobs.admit(admission())
    claim = await claim_one(brief)
    sent = await dispatch(brief, claim)
    await brief.engine.append([text_frame(claim, sent.seq + 1, "half an answer")])
    again = await reclaimed(brief)
    sent = await dispatch(brief, again, 2)
    await brief.engine.finish(again, success(sent.seq + 1))
    job = await ended(brief, made.id)
    assert (job.status, job.calls) == ("succeeded", 2)
    assert job.cost.wasted_nano_usd == (34 * 1_000_000_000 + 5 * 2_000_000_000) // 1_000_000  # 100 and 14 bytes / 3
    assert names(await read_log(brief, made.id)) == [
        "queued", "started", "delta", "retrying", "reset", "succeeded",
    ]  # fmt: skip


READ = Receipt("worker_lost", billed=True, input_tokens=30, output_tokens=90, spent_nano_usd=210_000)
"""The provider's own report, to a worker that lost its job after four bytes (38,000 nano-USD by estimate)."""


async def lost_call(store: Store, **fields: Any) -> Claim:
    """The stale claim of a job that another worker has by now."""
    await store.jobs.admit(admission(**fields))
    claim = await claim_one(store)
    sent = await dispatch(store, claim)
    await store.engine.append([text_frame(claim, sent.seq + 1, "half")])
    await reclaimed(store)
    return claim


async def test_what_a_worker_had_read_that_lost_its_job_is_booked_beside_the_estimate_once(brief: Store) -> None:
    claim = await lost_call(brief)
    assert [await brief.engine.amend(claim, 1, READ) for _ in range(2)] == ["ok", "known"]  # its reply was lost
    fields = await brief.jobs.fields(claim.id, "t")
    assert fields is not None
    lost, more = ledger_rows(fields)
    assert (lost.outcome, lost.billed, lost.estimated, lost.spent_nano_usd) == ("worker_lost", True, True, 38_000)
    assert (more.outcome, more.billed, more.estimated, more.call) == ("correction", False, False, 1)
    assert (more.input_tokens, lost.output_tokens + more.output_tokens) == (0, 90), "a row is never negative"
    assert (more.spent_nano_usd, more.wasted_nano_usd, more.waste_reason) == (172_000, 172_000, "worker_lost")
    page = await brief.ledger.page("t", 0, 10**15, None, 10)
    assert page.entries == [lost, more]
    now = await brief.stats.now_ms()
    [hour] = await brief.stats.hours("t", now, now)
    sums = totals(hour.fields)
    assert (sums.tries, sums.calls, sums.output_tokens) == (1, 1, 90)
    assert (sums.spent_nano_usd, sums.wasted_by_reason) == (210_000, {"worker_lost": 210_000})
    assert sums.estimated_nano_usd == 38_000, "the correction is the provider's own word"
    job = await brief.jobs.get(claim.id, "t")
    assert job is not None
    assert (job.cost.nano_usd, job.cost.wasted_nano_usd) == (210_000, 210_000)


async def test_an_ended_job_stays_as_it_was_told_while_its_ledger_is_corrected(brief: Store) -> None:
    made = await brief.jobs.admit(admission(on_crash="fail"))
    claim = await claim_one(brief)
    await dispatch(brief, claim)
    job = await ended(brief, made.id)
    assert await brief.engine.amend(claim, 1, READ) == "ok"
    assert await brief.jobs.get(made.id, "t") == job
    page = await brief.ledger.page("t", 0, 10**15, None, 10)
    assert sum(row.spent_nano_usd or 0 for row in page.entries) == READ.spent_nano_usd


async def test_a_correction_without_a_price_is_unpriced(brief: Store) -> None:
    claim = await lost_call(brief)
    assert await brief.engine.amend(claim, 1, replace(READ, spent_nano_usd=None)) == "ok"
    [_, more] = (await brief.ledger.page("t", 0, 10**15, None, 10)).entries
    assert (more.output_tokens, more.spent_nano_usd, more.wasted_nano_usd) == (88, None, 0)


async def test_nothing_is_corrected_that_is_known_or_goes_on_or_has_lapsed(brief: Store) -> None:
    claim = await lost_call(brief)
    assert await brief.engine.amend(claim, 1, replace(READ, output_tokens=2, spent_nano_usd=34_000)) == "known"
    assert await brief.engine.amend(claim, 2, READ) == "open"
    await brief._pipe.command("DEL", brief.redis_keys("job", claim.id))  # pyright: ignore[reportPrivateUsage]
    assert await brief.engine.amend(claim, 1, READ) == "gone"
    assert len((await brief.ledger.page("t", 0, 10**15, None, 10)).entries) == 1


async def test_what_the_provider_reported_is_not_corrected(brief: Store) -> None:
    await brief.jobs.admit(admission())
    claim = await claim_one(brief)
    await dispatch(brief, claim)
    await brief.engine.finish(claim, success(claim.number("seq") + 2))
    assert await brief.engine.amend(claim, 1, READ) == "known"


async def test_a_call_that_is_taken_up_by_another_worker_is_left_to_it(brief: Store) -> None:
    await brief.jobs.admit(admission(on_crash="resume"))
    claim = await claim_one(brief)
    await dispatch(brief, claim)
    await brief.engine.attach(claim, "resp_1")
    await reclaimed(brief)
    assert await brief.engine.amend(claim, 1, READ) == "open"
    assert (await brief.ledger.page("t", 0, 10**15, None, 10)).entries == []


async def test_the_log_of_a_job_that_ended_without_its_worker_goes_before_its_result(brief: Store) -> None:
    """Its text is read from the log and kept with the result; a job that has none needs no log for it."""
    silent = await brief.jobs.admit(admission())
    await brief.jobs.cancel(silent.id, "t")
    made = await brief.jobs.admit(admission(on_crash="fail"))
    claim = await claim_one(brief)
    sent = await dispatch(brief, claim)
    await brief.engine.append([text_frame(claim, sent.seq + 1, "half"), text_frame(claim, sent.seq + 2, " of it")])
    await ended(brief, made.id)
    await brief.engine.tend()
    pipe = brief._pipe  # pyright: ignore[reportPrivateUsage]
    for job_id in (silent.id, made.id):
        assert await pipe.command("TTL", brief.redis_keys("events", job_id)) <= 3_600
        assert await pipe.command("TTL", brief.redis_keys("job", job_id)) > 80_000
    assert await pipe.command("EXISTS", brief.redis_keys("unfolded")) == 0
    await pipe.command("DEL", brief.redis_keys("events", made.id))
    snapshot, end = await read_log(brief, made.id)
    assert b"event: snapshot" in snapshot
    assert b'"text":"half of it"' in snapshot
    assert names([end]) == ["failed"]


async def test_on_crash_fail_ends_the_job_and_keeps_its_text(brief: Store) -> None:
    made = await brief.jobs.admit(admission(on_crash="fail"))
    claim = await claim_one(brief)
    sent = await dispatch(brief, claim)
    await brief.engine.append([text_frame(claim, sent.seq + 1, "half")])
    job = await ended(brief, made.id)
    assert job.error is not None
    assert (job.status, job.error.code, job.calls) == ("failed", "worker_lost", 1)
    assert job.output is not None
    assert job.output.text == "half"


async def test_a_cancelled_job_of_a_dead_worker_is_cancelled(brief: Store) -> None:
    made = await brief.jobs.admit(admission())
    await dispatch(brief, await claim_one(brief))
    await brief.jobs.cancel(made.id, "t")
    assert (await ended(brief, made.id)).status == "cancelled"


async def test_a_waiting_job_expires_at_its_deadline(brief: Store) -> None:
    made = await brief.jobs.admit(admission(deadline_s=0.05, idem="i", fp="f"))
    job = await ended(brief, made.id)
    assert job.error is not None
    assert (job.status, job.error.code) == ("expired", "deadline_exceeded")
    assert (await brief.jobs.admit(admission(idem="i"))).disposition == "replayed"
    assert (await brief.jobs.admit(admission(fp="f"))).disposition == "created"


async def test_the_sixth_loss_of_a_job_is_poison(brief: Store) -> None:
    made = await brief.jobs.admit(admission())
    for _ in range(6):
        await reclaimed(brief)
    job = await ended(brief, made.id)
    assert job.error is not None
    assert (job.status, job.error.code, job.calls) == ("failed", "poison", 0)


async def test_a_reader_follows_live_through_a_recovery(brief: Store) -> None:
    made = await brief.jobs.admit(admission())
    reading = asyncio.create_task(read_log(brief, made.id))
    await dispatch(brief, await claim_one(brief))
    again = await reclaimed(brief)
    sent = await dispatch(brief, again, 2)
    await brief.engine.append([text_frame(again, sent.seq + 1, "whole")])
    await brief.engine.finish(again, success(sent.seq + 2))
    frames = await reading
    assert [int(f.split(b"\n")[0][4:]) for f in frames] == list(range(1, len(frames) + 1))
    assert names(frames)[-1] == "succeeded"


async def test_however_many_jobs_died_together_one_look_brings_them_all_back(timed: Store) -> None:
    made = [(await timed.jobs.admit(admission(prompt=str(n), deadline_s=1.0))).id for n in range(40)]
    held = [(await timed.jobs.admit(admission(prompt=f"held {n}", band="interactive"))).id for n in range(40)]
    for _ in range(3):
        await timed.engine.claim("dead", 16, ["openai"])
    await lived_long(timed)
    now, pipe = await timed.stats.now_ms(), timed._pipe  # pyright: ignore[reportPrivateUsage]
    for name in ("leases", "deadlines"):
        ids = await pipe.command("ZRANGE", timed.redis_keys(name), 0, -1)
        for job_id in ids:
            await pipe.command("ZADD", timed.redis_keys(name), now - 1, job_id)
    await timed.engine.tend()
    depth = await timed.stats.depth("t")
    assert depth.running == 0
    assert depth.expired + depth.queued == len(made) + len(held)
    assert await pipe.command("ZCOUNT", timed.redis_keys("deadlines"), "-inf", now) == 0
