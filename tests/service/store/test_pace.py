"""How long a lane's queue is and how fast it goes, by which a new job's start is expected."""

from __future__ import annotations

import pytest

from onceq_service.store import Pace, Store
from tests.service.store.driver import admission, claim_one, dispatch, success

LANE = "openai/m"
NOW_MS = 1_000_000


async def test_a_lane_that_nobody_asked_is_empty_and_open(store: Store) -> None:
    pace = await store.paces.get(LANE)
    assert pace.ahead["batch"] == 0
    assert (pace.per_s, dict(pace.closed_until_ms)) == (None, {})


async def test_jobs_of_this_band_and_those_before_it_are_ahead_whosever_they_are(store: Store) -> None:
    for band, tenant in (("interactive", "a"), ("standard", "a"), ("standard", "b"), ("batch", "b")):
        await store.jobs.admit(admission(band=band, tenant=tenant))
    await store.jobs.admit(admission(lane="openai/other", model="openai/other"))
    pace = await store.paces.get(LANE)
    assert pace.ahead == {"interactive": 1, "standard": 3, "batch": 4}


async def test_what_runs_is_not_ahead_and_its_end_is_counted_as_pace(store: Store) -> None:
    await store.jobs.admit(admission())
    claim = await claim_one(store)
    await dispatch(store, claim)
    assert (await store.paces.get(LANE)).ahead["batch"] == 0
    assert (await store.paces.get(LANE)).per_s is None
    await store.engine.finish(claim, success())
    pace = await store.paces.get(LANE)
    assert pace.per_s is not None
    assert 0 < pace.per_s <= 1 / 60


async def test_a_job_that_never_ran_says_nothing_of_the_pace(store: Store) -> None:
    made = await store.jobs.admit(admission())
    await store.jobs.cancel(made.id, "t")
    assert (await store.paces.get(LANE)).per_s is None


async def test_a_pause_and_a_brake_close_the_lane(store: Store) -> None:
    await store.lanes.learn(LANE, "", brake_s=30)
    braked = await store.paces.get(LANE)
    until = braked.closed_until_ms["standard"]
    assert until is not None
    assert 0 < until - braked.at_ms <= 30_000
    assert braked.start_ms("standard", free=5) == until
    await store.lanes.switch_lane(LANE, "pause")
    assert (await store.paces.get(LANE)).start_ms("standard", free=5) is None


async def test_a_paused_band_is_closed_alone(store: Store) -> None:
    await store.lanes.switch_band("batch", "pause")
    pace = await store.paces.get(LANE)
    assert pace.start_ms("batch", free=5) is None
    assert pace.start_ms("standard", free=5) == pace.at_ms


@pytest.mark.parametrize(
    ("ahead", "per_s", "free", "starts_in_ms"),
    [(0, None, 1, 0), (3, 0.5, 4, 0), (3, 0.5, 0, 8_000), (0, 2.0, 0, 500), (3, None, 0, None), (None, 2.0, 9, None)],
)
def test_a_start_is_expected_by_free_slots_else_by_pace_else_not_at_all(
    ahead: int | None, per_s: float | None, free: int, starts_in_ms: int | None
) -> None:
    pace = Pace(NOW_MS, {"interactive": 0, "standard": ahead, "batch": 9}, per_s, {})
    expected = None if starts_in_ms is None else NOW_MS + starts_in_ms
    assert pace.start_ms("standard", free) == expected
