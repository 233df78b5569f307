"""Is all well? Each reason alone, at its limit."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from onceq.wire import CostPoint, Depth, Health, LaneInfo, Lanes, Stats
from onceq_dashboard.verdict import OLDEST_WAITING_S, Sample, Verdict, judge, remember
from tests.dashboard import worlds

FREE = Lanes(lanes=[LaneInfo(lane="openai/gpt-4o-mini")])
AT = worlds.now()


def stats(**update: Any) -> Stats:
    return worlds.make_stats([], AT, **update)


def said(stats: Stats, health: Health = worlds.OK, lanes: Lanes = FREE, history: tuple[Sample, ...] = ()) -> Verdict:
    return judge(stats, health, lanes, history)


def hour(failed: int, succeeded: int, hours_ago: int = 0) -> CostPoint:
    at = AT.replace(minute=0, second=0, microsecond=0) - timedelta(hours=hours_ago)
    return CostPoint(at=at, totals=worlds.make_totals(0, failed=failed, succeeded=succeeded, cancelled=0))


def test_nothing_wrong_is_ok_without_reasons() -> None:
    assert said(stats()) == Verdict("ok")


def test_no_worker_is_down_and_says_how_many_wait() -> None:
    verdict = said(stats(workers=[], fleet=worlds.make_fleet(0), depth=Depth(queued=3)))
    assert verdict.level == "down"
    assert "3 jobs waiting" in verdict.reasons[0]


def test_a_service_that_is_not_ready_is_down_and_its_words_are_no_markup() -> None:
    verdict = said(stats(), Health(status="unavailable", problems=["*redis* gone"]))
    assert verdict.level == "down"
    assert r"\*redis\* gone" in verdict.reasons[0]
    assert said(stats(), Health(status="unavailable")).reasons == ("The service is not ready: it does not say why.",)


@pytest.mark.parametrize("who", ["stats", "health"])
def test_relaxed_durability_is_told_whoever_says_it(who: str) -> None:
    told = Health(status="ok", durability="relaxed" if who == "health" else "strict")
    verdict = said(stats(durability="relaxed" if who == "stats" else "strict"), told)
    assert verdict.level == "degraded"
    assert "Durability is relaxed" in verdict.reasons[0]


def test_problems_of_a_degraded_service_are_told() -> None:
    verdict = said(stats(), Health(status="degraded", durability="strict", problems=["disk is full"]))
    assert verdict == Verdict("degraded", ("disk is full",))


def test_a_lane_that_its_provider_holds_back_is_named_with_its_reason_until_it_is_free() -> None:
    lane = LaneInfo(lane="openai/x", braked_until=AT + timedelta(seconds=5), brake_reason="provider_rate_limited")
    verdict = said(stats(), lanes=Lanes(lanes=[lane]))
    assert verdict.reasons == ("`openai/x` held back by the provider (`provider_rate_limited`).",)
    later = AT + timedelta(seconds=5)
    assert said(worlds.make_stats([], later), lanes=Lanes(lanes=[lane])).level == "ok"


def test_what_is_paused_is_told_and_of_many_only_three_are_named() -> None:
    lanes = [LaneInfo(lane=f"p/m{n}", paused=True) for n in range(4)]
    reason = said(stats(), lanes=Lanes(lanes=lanes, paused_bands=["batch"])).reasons[0]
    assert reason.startswith("Paused by hand: `p/m0`, `p/m1`, `p/m2` and 2 more.")


def test_a_job_that_waits_too_long_is_a_problem_whatever_the_length_of_the_queue() -> None:
    assert said(stats(oldest_queued_s=OLDEST_WAITING_S - 0.1)).level == "ok"
    assert said(stats(oldest_queued_s=OLDEST_WAITING_S)).reasons == ("The oldest job has waited 5 min.",)


@pytest.mark.parametrize(
    ("failed", "succeeded", "level"), [(2, 0, "ok"), (3, 0, "degraded"), (5, 96, "ok"), (5, 95, "degraded")]
)
def test_failures_count_from_three_and_from_five_per_cent(failed: int, succeeded: int, level: str) -> None:
    assert said(stats(hours=[hour(failed, succeeded)])).level == level


def test_failures_of_this_hour_and_the_one_before_count_and_no_older_ones() -> None:
    assert said(stats(hours=[hour(9, 0, hours_ago=1)])).level == "degraded"
    assert said(stats(hours=[hour(9, 0, hours_ago=2)])).level == "ok"


def test_a_queue_grows_when_it_gained_ten_jobs_and_a_fifth_in_about_a_minute() -> None:
    def grown(queued: int, before: int, seconds: float) -> str:
        history = (Sample(AT - timedelta(seconds=seconds), before),)
        return said(stats(depth=Depth(queued=queued)), history=history).level

    assert grown(10, 0, 60) == "degraded"
    assert grown(9, 0, 60) == "ok"
    assert grown(119, 100, 60) == "ok"
    assert grown(120, 100, 60) == "degraded"
    assert grown(500, 0, 29) == "ok", "too short a time to call it a trend"
    assert grown(500, 0, 61) == "ok", "too long ago"


def test_the_history_keeps_two_minutes_and_one_reading_of_a_time() -> None:
    old, now = Sample(AT - timedelta(seconds=121), 1), stats(depth=Depth(queued=7))
    kept = Sample(AT - timedelta(seconds=119), 2)
    assert remember([old, kept, Sample(AT, 5)], now) == (kept, Sample(AT, 7))
