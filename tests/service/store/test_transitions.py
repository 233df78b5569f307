"""The scripts' transitions, one promise a test, on a real redis-server."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from onceq_service.embedded.redis_server import EmbeddedRedis
from onceq_service.store import Filter, KeyReused, LeaseLost, Retention, Store, open_store
from onceq_service.store.engine import End, EndState, Engine, Receipt
from onceq_service.store.stats import ledger_rows
from onceq_service.store.views import fields_of
from tests.service.store.driver import (
    PRICES,
    admission,
    claim_one,
    dispatch,
    names,
    read_log,
    success,
    text_frame,
)  # fmt: skip
from tests.waiting import until

REFUSED = Receipt("provider_rate_limited", billed=False)
BROKEN = Receipt("stream_broken", billed=True, estimated=True, input_tokens=3, output_tokens=1, spent_nano_usd=5_000)


async def test_a_job_walks_from_queued_to_succeeded_with_a_gapless_log(store: Store) -> None:
    made = await store.jobs.admit(admission())
    claim = await claim_one(store)
    sent = await dispatch(store, claim)
    assert await store.engine.append([text_frame(claim, sent.seq + 1, "h")]) == [("ok", 3)]
    assert await store.engine.finish(claim, success(4, text_frame(claim, 4, "i").data)) == ("ok", 5)
    job = await store.jobs.get(made.id, "t")
    assert job is not None
    assert (job.status, job.calls, job.tries, job.cost.nano_usd, job.cost.usd) == ("succeeded", 1, 1, 7_000, "0.000007")
    assert job.output is not None
    assert job.output.text == "hi"
    frames = await read_log(store, made.id)
    assert names(frames) == ["queued", "started", "delta", "delta", "succeeded"]
    assert [f.split(b"\n")[0] for f in frames] == [b"id: %d" % n for n in range(1, 6)]
    assert await read_log(store, made.id, 3) == frames[3:]


async def test_a_worker_knows_of_a_job_what_redis_does_when_it_is_claimed(store: Store) -> None:
    made = await store.jobs.admit(admission(prompt="a question", user="u", labels='{"a":"b"}'))
    claim = await claim_one(store)
    known = await store._pipe.command("HGETALL", store.redis_keys("job", made.id))  # pyright: ignore[reportPrivateUsage]
    assert claim.fields == fields_of(known)
    assert (claim.text("state"), claim.text("worker"), claim.text("fence")) == ("running", "w1", claim.fence)


async def test_a_call_begins_anew_where_readers_have_words_of_the_one_before_and_the_first_start_stays(
    store: Store,
) -> None:
    made = await store.jobs.admit(admission(max_calls=9))
    said: list[str] = []
    for n, text in enumerate(("some", "", "more"), 1):
        claim = await claim_one(store)
        sent = await dispatch(store, claim, n)
        said += [(await store.jobs.fields(made.id, "t") or {})["started_ms"].decode()]
        if text:
            await store.engine.append([text_frame(claim, sent.seq + 1, text, n)])
        await asyncio.sleep(0.002)
        assert await store.engine.requeue(claim, BROKEN, delay_s=0, reason="stream_broken")
    assert len(set(said)) == 1
    assert await store.jobs.cancel(made.id, "t")
    frames = names(await read_log(store, made.id))
    assert [name for name in frames if name in ("started", "reset")] == ["started", "reset", "started"]


async def test_ended_jobs_are_counted_no_longer_than_they_are_kept(store: Store) -> None:
    """Also where their tenant never comes back; what waits or runs is counted as long as it does."""
    pipe = store._pipe  # pyright: ignore[reportPrivateUsage]
    for _ in range(40):
        await store.jobs.admit(admission())
        await store.engine.finish(await claim_one(store), success())
    gone = await pipe.command("ZRANGE", store.redis_keys("index", "t", "succeeded"), 0, 36)
    await pipe.command("DEL", *(store.redis_keys("job", name.decode()) for name in gone))
    await store.jobs.admit(admission())
    assert await pipe.command("TTL", store.redis_keys("index", "t", "queued")) == -1
    claim = await claim_one(store)
    assert await pipe.command("TTL", store.redis_keys("index", "t", "running")) == -1
    await store.engine.finish(claim, success())
    index = store.redis_keys("index", "t", "succeeded")
    assert 0 < await pipe.command("TTL", index) <= store.retention.result_s
    assert await pipe.command("ZCARD", index) == 4 + 37 - 34, "some of what is gone was found"
    shorter = replace(store.retention, result_s=60)
    await store.jobs.admit(admission())
    await Engine(pipe, store.redis_keys, shorter, pipe).finish(await claim_one(store), success())
    assert await pipe.command("TTL", index) > 60, "others are kept for longer"


async def test_the_same_job_id_twice_is_one_job(store: Store) -> None:
    a = admission()
    first, second = await asyncio.gather(store.jobs.admit(a), store.jobs.admit(a))
    assert (first.id, first.disposition) == (second.id, second.disposition)
    assert (await store.stats.depth("t")).queued == 1


async def test_a_key_replays_its_job_and_refuses_another_body(store: Store) -> None:
    made = await store.jobs.admit(admission(idem="i1"))
    again = await store.jobs.admit(admission(idem="i1"))
    assert (again.id, again.disposition) == (made.id, "joined")
    with pytest.raises(KeyReused) as reused:
        await store.jobs.admit(admission(idem="i1", body_hash="other"))
    assert reused.value.job_id == made.id


async def test_a_key_replays_its_job_although_it_failed_and_the_fingerprint_is_free_again(store: Store) -> None:
    made = await store.jobs.admit(admission(idem="i1", fp="f1"))
    assert await store.jobs.cancel(made.id, "t") == "cancelled"
    again = await store.jobs.admit(admission(idem="i1", fp="f1"))
    assert (again.id, again.disposition) == (made.id, "replayed")
    fresh = await store.jobs.admit(admission(fp="f1"))
    assert fresh.disposition == "created"


async def test_equal_requests_join_and_later_replay_within_the_window(store: Store) -> None:
    made = await store.jobs.admit(admission(fp="f1"))
    joined = await store.jobs.admit(admission(fp="f1", idem="i2"))
    assert (joined.id, joined.disposition) == (made.id, "joined")
    claim = await claim_one(store)
    await dispatch(store, claim)
    await store.engine.finish(claim, success(3))
    replayed = await store.jobs.admit(admission(fp="f1"))
    assert (replayed.id, replayed.disposition) == (made.id, "replayed")
    by_key = await store.jobs.admit(admission(idem="i2"))
    assert (by_key.id, by_key.disposition) == (made.id, "replayed")
    assert (await store.jobs.admit(admission(fp="f1", fresh=True))).disposition == "created"


@pytest.mark.parametrize("state", ["cancelled", "succeeded"])
async def test_who_asks_after_a_cancel_that_is_not_done_yet_gets_a_new_job(store: Store, state: EndState) -> None:
    made = await store.jobs.admit(admission(fp="f1", idem="i1"))
    claim = await claim_one(store)
    await dispatch(store, claim)
    assert await store.jobs.cancel(made.id, "t") == "requested"
    by_key = await store.jobs.admit(admission(fp="f1", idem="i1"))
    assert (by_key.id, by_key.disposition) == (made.id, "joined"), "a key is its own job's, whatever becomes of it"
    asked = await store.jobs.admit(admission(fp="f1", idem="i2"))
    assert asked.disposition == "created"
    await store.engine.finish(claim, replace(success(3), state=state))
    joined = await store.jobs.admit(admission(fp="f1"))
    assert (joined.id, joined.disposition) == (asked.id, "joined"), "the old job's end leaves the question to it"
    assert (await store.jobs.admit(admission(fp="f1", idem="i2"))).id == asked.id


async def test_a_window_that_is_longer_than_the_result_is_kept_ends_with_it(
    redis_server: EmbeddedRedis, queue: str
) -> None:
    async with open_store(redis_server.url, queue, Retention(result_s=1, events_s=1)) as store:
        made = await store.jobs.admit(admission(fp="f", window_s=86_400))
        claim = await claim_one(store)
        await dispatch(store, claim)
        await store.engine.finish(claim, success(3))

        async def gone() -> bool:
            return await store.jobs.get(made.id, "t") is None

        await until(gone, "the result to lapse")
        assert (await store.jobs.admit(admission(fp="f", window_s=86_400))).disposition == "created"


async def test_a_repeated_append_and_finish_change_nothing(store: Store) -> None:
    made = await store.jobs.admit(admission())
    claim = await claim_one(store)
    sent = await dispatch(store, claim)
    assert (await dispatch(store, claim)).seq == sent.seq
    frame = text_frame(claim, 3, "h")
    await store.engine.append([frame, frame])
    assert await store.engine.append([text_frame(claim, 5, "x")]) == [("gap", 3)]
    assert await store.engine.finish(claim, success(4)) == ("ok", 4)
    assert await store.engine.finish(claim, success(4)) == ("ok", 4)
    assert names(await read_log(store, made.id)) == ["queued", "started", "delta", "succeeded"]
    fields = await store.jobs.fields(made.id, "t")
    assert fields is not None
    assert len(ledger_rows(fields)) == 1


async def test_a_stale_fence_writes_nothing(store: Store) -> None:
    made = await store.jobs.admit(admission())
    claim = await claim_one(store)
    await dispatch(store, claim)
    await store.engine.requeue(claim, REFUSED, delay_s=0, reason="provider_rate_limited")
    other = await claim_one(store, "w2")
    assert await store.engine.append([text_frame(claim, 4, "zombie")]) == [("lost", 3)]
    with pytest.raises(LeaseLost):
        await store.engine.finish(claim, success(4))
    with pytest.raises(LeaseLost):
        await store.engine.dispatch(claim, 2, 1, PRICES)
    await dispatch(store, other, 2)
    await store.engine.finish(other, success(5))
    assert b"zombie" not in b"".join(await read_log(store, made.id))


async def test_a_refused_try_is_no_call_and_a_broken_one_is_waste(store: Store) -> None:
    made = await store.jobs.admit(admission())
    claim = await claim_one(store)
    await dispatch(store, claim)
    await store.engine.requeue(claim, REFUSED, delay_s=0, reason="provider_rate_limited")
    claim = await claim_one(store)
    sent = await dispatch(store, claim, 2)
    assert sent.call == 1
    await store.engine.append([text_frame(claim, sent.seq + 1, "half")])
    await store.engine.requeue(claim, BROKEN, delay_s=0, reason="stream_broken")
    claim = await claim_one(store)
    sent = await dispatch(store, claim, 3)
    await store.engine.finish(claim, success(sent.seq + 1))
    job = await store.jobs.get(made.id, "t")
    assert job is not None
    assert (job.calls, job.tries, job.cost.nano_usd, job.cost.wasted_nano_usd) == (2, 3, 12_000, 5_000)
    log = await read_log(store, made.id)
    assert names(log) == ["queued", "started", "retrying", "started", "delta", "retrying", "reset", "succeeded"]
    fields = await store.jobs.fields(made.id, "t")
    assert fields is not None
    rows = ledger_rows(fields)
    assert [(r.outcome, r.billed, r.wasted_nano_usd, r.waste_reason) for r in rows] == [
        ("provider_rate_limited", False, 0, None), ("stream_broken", True, 5_000, "stream_broken"),
        ("ok", True, 0, None),
    ]  # fmt: skip


async def test_a_delayed_job_waits_and_says_until_when(timed: Store) -> None:
    await timed.jobs.admit(admission())
    claim = await claim_one(timed)
    await dispatch(timed, claim)
    await timed.engine.requeue(claim, REFUSED, delay_s=0.3, reason="provider_rate_limited")
    assert await timed.engine.claim("w1", 1, ["openai"]) == ([], 0.3)
    assert await timed.stats.delayed() == 1


async def test_a_braked_lane_gives_nothing_and_another_lane_goes_on(store: Store) -> None:
    first = await store.jobs.admit(admission())
    claim = await claim_one(store)
    await dispatch(store, claim)
    await store.engine.requeue(claim, REFUSED, delay_s=60, reason="provider_rate_limited", brake_s=60)
    await store.jobs.admit(admission())
    other = await store.jobs.admit(admission(lane="openai/n", model="openai/n"))
    assert (await claim_one(store)).id == other.id
    assert (await store.engine.claim("w1", 1, ["openai"]))[0] == []
    assert first.id != other.id


async def test_cancel_ends_a_waiting_job_and_flags_a_running_one(store: Store) -> None:
    waiting = await store.jobs.admit(admission())
    assert await store.jobs.cancel(waiting.id, "other tenant") == "unknown"
    assert await store.jobs.cancel(waiting.id, "t") == "cancelled"
    assert await store.jobs.cancel(waiting.id, "t") == "ended"
    assert names(await read_log(store, waiting.id)) == ["queued", "cancelled"]
    running = await store.jobs.admit(admission())
    claim = await claim_one(store)
    sent = await dispatch(store, claim)
    assert await store.jobs.cancel(running.id, "t") == "requested"
    assert await store.engine.append([text_frame(claim, sent.seq + 1, "h")]) == [("cancel", 3)]


async def test_a_released_job_is_claimed_again_at_once_and_for_free(store: Store) -> None:
    made = await store.jobs.admit(admission())
    await store.engine.release(await claim_one(store))
    again = await claim_one(store, "w2")
    assert again.id == made.id
    await dispatch(store, again)
    await store.engine.release(again)
    assert (await store.engine.finish(again, success(3)))[0] == "ok"


async def test_tenants_share_a_lane_fairly(store: Store) -> None:
    for n in range(6):
        await store.jobs.admit(admission(tenant="a", prompt=str(n)))
    for n in range(2):
        await store.jobs.admit(admission(tenant="b", prompt=str(n)))
    claims, _ = await store.engine.claim("w1", 4, ["openai"])
    assert sorted(c.text("tenant") for c in claims) == ["a", "a", "b", "b"]


async def test_interactive_goes_first_and_batch_is_not_starved(store: Store) -> None:
    for n in range(20):
        await store.jobs.admit(admission(band="batch", prompt=f"b{n}"))
    for n in range(40):
        await store.jobs.admit(admission(band="interactive", prompt=f"i{n}"))
    claims, _ = await store.engine.claim("w1", 32, ["openai"])
    bands = [c.text("band") for c in claims]
    assert bands[0] == "interactive"
    assert 1 <= bands.count("batch") <= 4


async def test_a_worker_takes_only_what_its_providers_serve(store: Store) -> None:
    await store.jobs.admit(admission(lane="bedrock/m", provider="bedrock", model="bedrock/m"))
    assert (await store.engine.claim("w1", 1, ["openai"]))[0] == []
    assert len((await store.engine.claim("w1", 1, ["bedrock"]))[0]) == 1


async def test_pages_of_jobs_are_newest_first_and_whole(store: Store) -> None:
    made = [(await store.jobs.admit(admission(prompt=str(n)))).id for n in range(25)]
    for job_id in made[::3]:
        await store.jobs.cancel(job_id, "t")
    seen: list[str] = []
    cursor = None
    while True:
        page = await store.jobs.list("t", Filter(), cursor=cursor, limit=4)
        seen += [job.id for job in page.jobs]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert len(seen) == 25
    assert set(seen) == set(made)
    only = await store.jobs.list("t", Filter(status="cancelled"), cursor=None, limit=100)
    assert {job.id for job in only.jobs} == set(made[::3])


async def test_a_post_whose_answer_was_lost_joins_once(timed: Store) -> None:
    made = await timed.jobs.admit(admission(idem="i"))
    late, other = admission(idem="i"), admission(idem="i")
    for post in (late, late, other, late, other):
        assert (await timed.jobs.admit(post)).id == made.id
    claim = await claim_one(timed)
    await dispatch(timed, claim)
    await timed.engine.finish(claim, success(3))
    replay = admission(idem="i")
    for post in (replay, late, replay):
        assert (await timed.jobs.admit(post)).disposition == "replayed"
    now = await timed.stats.now_ms()
    [one] = await timed.stats.hours("t", now - 1000, now)
    t = one.point().totals
    assert (t.jobs, t.joined, t.replayed, t.avoided_nano_usd) == (1, 2, 1, 3 * 7_000)


async def test_a_cancel_that_comes_with_the_calls_failure_ends_the_job_and_not_after_the_backoff(store: Store) -> None:
    made = await store.jobs.admit(admission())
    claim = await claim_one(store)
    await dispatch(store, claim)
    assert await store.jobs.cancel(made.id, "t") == "requested"
    assert not await store.engine.requeue(claim, REFUSED, delay_s=60, reason="provider_rate_limited")
    end = End(state="cancelled", rest=b"", output=b"", receipt=REFUSED, kept=False, first_seq=0)
    await store.engine.finish(claim, end)
    assert names(await read_log(store, made.id)) == ["queued", "started", "cancelled"]


async def test_a_cancelled_job_that_a_worker_hands_back_has_ended(store: Store) -> None:
    made = await store.jobs.admit(admission())
    claim = await claim_one(store)
    assert await store.jobs.cancel(made.id, "t") == "requested"
    for _ in range(2):
        await store.engine.release(claim)
    assert names(await read_log(store, made.id)) == ["queued", "cancelled"]
    depth = await store.stats.depth("t")
    assert (depth.cancelled, depth.queued, depth.running) == (1, 0, 0)


async def test_sums_count_jobs_calls_and_money(timed: Store) -> None:
    await timed.jobs.admit(admission(fp="f"))
    await timed.jobs.admit(admission(fp="f"))
    claim = await claim_one(timed)
    await dispatch(timed, claim)
    await timed.engine.finish(claim, success(3))
    now = await timed.stats.now_ms()
    [one] = await timed.stats.hours("t", now - 1000, now)
    t = one.point().totals
    assert (t.jobs, t.joined, t.succeeded, t.calls, t.spent_nano_usd) == (1, 1, 1, 1, 7_000)
    assert (t.bill_amplification, t.total.count, t.input_tokens) == (1.0, 1, 3)
