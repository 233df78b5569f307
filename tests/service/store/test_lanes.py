"""Lanes: limits that all workers share, brakes, the breaker, and the switches."""

from __future__ import annotations

import asyncio

from onceq_service.settings import LaneLimits, limits_of
from onceq_service.store import Store
from onceq_service.store.engine import Claim, End, Receipt
from tests.service.store.driver import admission, claim_one, dispatch, success
from tests.service.store.timed import later

FAILED = Receipt("provider_error", billed=False)


async def admit_many(store: Store, n: int, limits: LaneLimits, **changes: object) -> None:
    await asyncio.gather(
        *(store.jobs.admit(admission(prompt=str(k), limits=limits.packed(), **changes)) for k in range(n))
    )


async def claim_all(store: Store, worker: str = "w1") -> list[Claim]:
    claims: list[Claim] = []
    while more := (await store.engine.claim(worker, 16, ["openai"]))[0]:
        claims += more
    return claims


async def test_four_workers_start_no_more_than_the_lane_allows_in_a_minute(store: Store) -> None:
    await admit_many(store, 60, LaneLimits(requests_per_minute=50))
    started = await asyncio.gather(*(claim_all(store, f"w{n}") for n in range(4)))
    assert sum(map(len, started)) == 50
    _, wait_s = await store.engine.claim("w1", 1, ["openai"])
    assert wait_s > 3, "the next look is due when the window has room again"


async def test_no_sixty_seconds_see_more_starts_than_the_lane_allows_in_a_minute(timed: Store) -> None:
    """Also not sixty that begin late in a second: starts are counted by whole seconds."""
    await later(timed, 0.999)
    await admit_many(timed, 60, LaneLimits(requests_per_minute=50))
    assert len(await claim_all(timed)) == 50
    for seconds, started in ((59.001, 0), (0.998, 0), (0.002, 10)):
        await later(timed, seconds)
        assert len(await claim_all(timed)) == started


async def test_a_lane_runs_no_more_jobs_at_once_than_it_may(store: Store) -> None:
    await admit_many(store, 5, LaneLimits(concurrency=2))
    first = await claim_all(store)
    assert len(first) == 2
    await dispatch(store, first[0])
    await store.engine.finish(first[0], success(3))
    assert len(await claim_all(store)) == 1
    await store.engine.release(first[1])
    assert len(await claim_all(store)) == 1
    lane = await store.lanes.get("openai/m")
    assert (lane.running, lane.limits) == (2, {"concurrency": 2})


async def test_tokens_are_counted_by_estimate_and_corrected_by_what_was_used(store: Store) -> None:
    await admit_many(store, 3, LaneLimits(output_tokens_per_minute=100), out_est=80)
    [first] = await claim_all(store)
    await dispatch(store, first)
    await store.engine.finish(first, success(3, receipt=Receipt("ok", billed=True, output_tokens=10)))
    [second] = await claim_all(store)
    assert (await store.lanes.get("openai/m")).output_tokens_last_minute == 90
    assert second.id != first.id


async def test_a_job_that_is_larger_than_the_limit_starts_alone(store: Store) -> None:
    await admit_many(store, 2, LaneLimits(input_tokens_per_minute=100), in_est=500)
    assert len(await claim_all(store)) == 1


async def test_another_lane_goes_on_while_one_is_closed(store: Store) -> None:
    await admit_many(store, 3, LaneLimits(concurrency=1))
    await claim_all(store)
    other = await store.jobs.admit(admission(lane="openai/n", model="openai/n"))
    assert (await claim_one(store)).id == other.id


async def test_a_paused_lane_and_a_paused_band_start_nothing_until_resumed(store: Store) -> None:
    await store.jobs.admit(admission())
    await store.lanes.switch_lane("openai/m", "pause")
    assert await claim_all(store) == []
    assert (await store.lanes.get("openai/m")).paused
    await store.lanes.switch_lane("openai/m", "resume")
    await store.lanes.switch_band("standard", "pause")
    assert await claim_all(store) == []
    assert await store.lanes.paused_bands() == ["standard"]
    await store.lanes.switch_band("standard", "resume")
    assert len(await claim_all(store)) == 1


async def test_five_failures_in_a_row_open_the_breaker_and_a_success_closes_it(timed: Store) -> None:
    await admit_many(timed, 6, LaneLimits())
    claims = await claim_all(timed)
    for claim in claims[:5]:
        await dispatch(timed, claim)
        await timed.engine.requeue(claim, FAILED, delay_s=0, reason="provider_error")
    lane = await timed.lanes.get("openai/m")
    assert (lane.breaker, lane.failures_in_row, lane.brake_reason) == ("half_open", 5, "provider_error")
    assert await claim_all(timed) == []
    await dispatch(timed, claims[5])
    await timed.engine.finish(claims[5], success(3))
    assert (await timed.lanes.get("openai/m")).breaker == "closed"
    assert len(await claim_all(timed)) == 5


async def test_a_trial_that_tells_nothing_of_the_provider_makes_room_for_the_next_one(timed: Store) -> None:
    """Half open, one job tries the lane; when it is cancelled the others don't wait for an outcome that never comes."""
    await admit_many(timed, 7, LaneLimits())
    for claim in (await claim_all(timed))[:5]:
        await dispatch(timed, claim)
        await timed.engine.requeue(claim, FAILED, delay_s=0, reason="provider_error")
    await later(timed, 2)
    [trial] = await claim_all(timed)
    assert await claim_all(timed) == []
    await dispatch(timed, trial, 2)
    unsure = Receipt("cancelled", billed=True)
    await timed.engine.finish(trial, End("cancelled", b"", b"", unsure, kept=False, first_seq=0))
    assert len(await claim_all(timed)) == 1
    assert (await timed.lanes.get("openai/m")).breaker == "half_open"


async def test_a_call_that_is_only_stopped_is_no_trial(timed: Store) -> None:
    """Half open, its end would say nothing; the place is for a job that asks the provider something. A provider that is
    down would not hear of it: it waits until there may be a trial."""
    await timed.jobs.admit(admission(on_crash="resume"))
    goes_on = await claim_one(timed)
    await dispatch(timed, goes_on)
    await timed.engine.attach(goes_on, "resp_1")
    await admit_many(timed, 6, LaneLimits())
    for claim in (await claim_all(timed))[:5]:
        await dispatch(timed, claim)
        await timed.engine.requeue(claim, FAILED, delay_s=0, reason="provider_error")
    await timed.engine.hand_over(goes_on, delay_s=0, reason="stream_broken")
    assert await timed.jobs.cancel(goes_on.id, "t") == "requested"
    job = await timed.jobs.get(goes_on.id, "t")
    assert job is not None
    assert (job.cancel_requested, job.waiting) == (True, None)
    assert await claim_all(timed) == []
    await later(timed, 2)
    first, _trial = await claim_all(timed)
    assert first.id == goes_on.id
    assert (await timed.lanes.get("openai/m")).running in (None, 0)


async def test_a_lane_is_known_as_long_as_jobs_come(store: Store) -> None:
    """Or its pause would lapse while jobs wait for the word to go on."""
    await store.lanes.switch_lane("openai/m", "pause")
    pipe, lane = store._pipe, store.redis_keys("lane", "openai/m")  # pyright: ignore[reportPrivateUsage]
    await pipe.command("EXPIRE", lane, 60)
    await admit_many(store, 1, LaneLimits())
    assert await pipe.command("TTL", lane) > 7 * 86_400


async def test_a_burst_of_failures_opens_the_breaker_once(timed: Store) -> None:
    """Calls that had begun before it opened don't hold the lane back longer and longer."""
    await admit_many(timed, 30, LaneLimits())
    for claim in await claim_all(timed):
        await dispatch(timed, claim)
        await timed.engine.requeue(claim, FAILED, delay_s=0, reason="provider_error")
    lane = await timed.lanes.get("openai/m")
    assert lane.failures_in_row == 30
    assert lane.braked_until is not None
    now_ms = await timed.stats.now_ms()
    assert round(lane.braked_until.timestamp() * 1000) - now_ms == 2000


async def test_a_lane_without_limits_takes_those_that_the_provider_told(store: Store) -> None:
    await store.lanes.learn("openai/m", "3,0,0,0")
    await admit_many(store, 5, LaneLimits())
    assert len(await claim_all(store)) == 3
    lane = await store.lanes.get("openai/m")
    assert (lane.limits, lane.learned_limits, lane.running) == ({}, {"requests_per_minute": 3}, 3)


async def test_what_was_used_before_anybody_counted_is_counted_once(store: Store) -> None:
    await admit_many(store, 5, LaneLimits())
    for _ in range(3):
        await store.lanes.learn("openai/m", "3,0,0,0", used=2)
    assert len(await claim_all(store)) == 1


async def test_what_is_configured_goes_before_what_was_learned_axis_by_axis(store: Store) -> None:
    await store.lanes.learn("openai/m", "2,0,0,0")
    await admit_many(store, 6, LaneLimits(requests_per_minute=4, concurrency=9))
    assert len(await claim_all(store)) == 4
    await store.lanes.learn("openai/n", "2,0,0,0")
    await admit_many(store, 6, LaneLimits(concurrency=9), lane="openai/n", model="openai/n")
    assert len(await claim_all(store)) == 2


async def test_nothing_left_at_the_provider_holds_the_lane_back_for_all_workers_until_its_reset(timed: Store) -> None:
    await admit_many(timed, 2, LaneLimits())
    await timed.lanes.learn("openai/m", "100,0,0,0", brake_s=60)
    await later(timed, 59.999)
    lane = await timed.lanes.get("openai/m")
    assert lane.brake_reason == "provider_rate_limited"
    assert [await claim_all(timed, f"w{n}") for n in range(3)] == [[], [], []]
    await later(timed, 0.001)
    assert len(await claim_all(timed)) == 2


async def test_a_success_ends_the_breakers_brake_but_not_a_rate_limits(store: Store) -> None:
    await admit_many(store, 3, LaneLimits())
    first, second, _ = await claim_all(store)
    await dispatch(store, first)
    await store.engine.requeue(first, FAILED, delay_s=0, reason="provider_error")
    await store.lanes.learn("openai/m", "100,0,0,0", brake_s=60)
    await dispatch(store, second)
    await store.engine.finish(second, success(3))
    assert (await store.lanes.get("openai/m")).failures_in_row == 0
    assert await claim_all(store) == []


async def test_who_resumes_a_lane_lifts_a_brake_also_one_that_would_never_end(timed: Store) -> None:
    made = await timed.jobs.admit(admission())
    await timed.lanes.learn("openai/m", "100,0,0,0", brake_s=1e15)
    assert await claim_all(timed) == []
    job = await timed.jobs.get(made.id, "t")
    assert job is not None
    assert job.waiting is not None
    assert job.waiting.reason == "provider_rate_limited"
    await timed.lanes.switch_lane("openai/m", "resume")
    lane = await timed.lanes.get("openai/m")
    assert (lane.braked_until, lane.brake_reason) == (None, None)
    assert len(await claim_all(timed)) == 1


async def test_who_resumes_a_lane_closes_its_breaker(timed: Store) -> None:
    await admit_many(timed, 6, LaneLimits())
    for claim in (await claim_all(timed))[:5]:
        await dispatch(timed, claim)
        await timed.engine.requeue(claim, FAILED, delay_s=0, reason="provider_error")
    await timed.lanes.switch_lane("openai/m", "resume")
    lane = await timed.lanes.get("openai/m")
    assert (lane.breaker, lane.failures_in_row, lane.braked_until) == ("closed", 0, None)
    assert len(await claim_all(timed)) == 5


async def test_a_lane_that_is_resumed_counts_as_held_back_until_then(timed: Store) -> None:
    made = await timed.jobs.admit(admission())
    await timed.lanes.learn("openai/m", "100,0,0,0", brake_s=60)
    await later(timed, 10)
    await timed.lanes.switch_lane("openai/m", "resume")
    await later(timed, 5)
    claim = await claim_one(timed)
    await dispatch(timed, claim)
    await timed.engine.finish(claim, success(3))
    job = await timed.jobs.get(made.id, "t")
    assert job is not None
    phases = job.timings.phases
    assert phases is not None
    assert (phases.limiter_s, phases.queue_s) == (10.0, 5.0)


def test_the_limits_of_a_lane_are_its_own_then_its_providers_then_everyones() -> None:
    one, two, three = (LaneLimits(concurrency=n) for n in (1, 2, 3))
    lanes = {"openai/m": one, "openai/*": two, "*": three}
    assert [limits_of(name, lanes) for name in ("openai/m", "openai/x", "anthropic/x")] == [one, two, three]
    assert limits_of("openai/m", {}) is None
    assert LaneLimits().packed() == ""


async def test_counts_of_the_last_minute_are_of_that_also_where_nobody_claims(timed: Store) -> None:
    await admit_many(timed, 5, LaneLimits(requests_per_minute=50), out_est=3)
    assert len(await claim_all(timed)) == 5
    for seconds, left in ((0, 5), (60, 5), (1, 0)):
        await later(timed, seconds)
        lane = await timed.lanes.get("openai/m")
        assert (lane.requests_last_minute, lane.output_tokens_last_minute) == (left, 3 * left)
