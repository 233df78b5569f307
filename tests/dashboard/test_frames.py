"""Wire values as frames: the sums are those of the points, nothing is lost, and what is missing is no number."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from onceq.wire import NANO, CostPoint, Depth, LaneInfo, Lanes, Quantiles, Totals
from onceq_dashboard import frames, money
from tests.dashboard import worlds

AT = datetime(2026, 11, 24, 14, 35, 12, tzinfo=UTC)
POINTS = worlds.make_hours(AT)


def point(hours_ago: int = 0, model: str = "p/m", *, simulated: bool = False, **totals: object) -> CostPoint:
    at = AT.replace(minute=0, second=0) - timedelta(hours=hours_ago)
    return CostPoint(at=at, model=model, simulated=simulated, totals=Totals.model_validate(totals))


def test_real_and_simulated_points_never_meet() -> None:
    both = [*POINTS, *worlds.make_hours(AT, 2, simulated=True)]
    real, simulated = frames.of_kind(both, simulated=False), frames.of_kind(both, simulated=True)
    assert real == POINTS
    assert len(simulated) == 6
    assert all(p.simulated for p in simulated)


def test_the_sums_of_a_page_are_the_sums_of_its_points() -> None:
    added = frames.added(POINTS)
    assert added.jobs == sum(p.totals.jobs for p in POINTS)
    assert added.spent_nano_usd == sum(p.totals.spent_nano_usd for p in POINTS)
    assert added.avoided_nano_usd == sum(p.totals.avoided_nano_usd for p in POINTS)
    assert added.bill_amplification == added.calls / added.jobs
    assert frames.added([]).bill_amplification is None


def test_a_day_has_twenty_four_hours_even_when_nothing_happened() -> None:
    found = frames.hours([], AT)
    assert len(found) == 24
    assert (found[0], found[-1]) == (datetime(2026, 11, 23, 15, tzinfo=UTC), datetime(2026, 11, 24, 14, tzinfo=UTC))


def test_outcomes_have_a_row_an_hour_and_outcome_and_add_up_models() -> None:
    frame = frames.outcomes_by_hour([point(model="a", failed=2), point(model="b", failed=3), point(23, expired=1)], AT)
    assert len(frame) == 24 * 4
    assert frame["jobs"].dtype == "int64"
    last = frame.tail(4)
    assert list(last["outcome"]) == ["succeeded", "failed", "cancelled", "expired"]
    assert list(last["jobs"]) == [0, 5, 0, 0]
    assert frame["jobs"].sum() == 6


def test_ttft_is_a_gap_where_no_job_had_a_token() -> None:
    frame = frames.ttft_by_hour([point(2, ttft=Quantiles(p50=0.5, p95=2.0, count=9))], AT)
    assert len(frame) == 24
    assert frame["p50_s"].notna().sum() == frame["p95_s"].notna().sum() == 1
    row = frame[frame["tokens_seen"] == 9].iloc[0]
    assert (row["p50_s"], row["p95_s"]) == pytest.approx((0.5, 2.0), rel=1e-3)
    assert row["groups"] == 1


def test_spend_names_the_most_expensive_groups_and_adds_up_the_rest() -> None:
    points = [point(model=f"p/m{n}", spent_nano_usd=n * NANO) for n in range(1, 10)]
    frame = money.over_time(points, frames.hours(points, AT), "model", top=3)
    assert list(dict.fromkeys(frame["group"])) == ["p/m9", "p/m8", "p/m7", frames.OTHER]
    assert frame["usd"].sum() == 45
    assert frame[frame["group"] == frames.OTHER]["usd"].sum() == 21
    few = money.over_time(points[:3], frames.hours(points, AT), "model")
    assert frames.OTHER not in set(few["group"])


def test_costs_by_group_are_the_points_most_expensive_first() -> None:
    frame = money.costs(POINTS, "team")
    assert set(frame["group"]) == {"search", "support", frames.NOBODY}
    assert frame["spent_usd"].is_monotonic_decreasing
    assert frame["jobs"].sum() == sum(p.totals.jobs for p in POINTS)
    assert round(frame["spent_usd"].sum() * NANO) == sum(p.totals.spent_nano_usd for p in POINTS)
    assert (frame["spent_usd"] / frame["jobs"] == frame["per_job_usd"]).all()


@pytest.mark.parametrize(
    ("by", "groups"), [("labels", {"prompt=v0", "prompt=v1", "prompt=v2"}), ("key", {"key_1"}), ("band", {"standard"})]
)
def test_costs_group_by_every_dimension(by: money.GroupBy, groups: set[str]) -> None:
    assert set(money.costs(POINTS, by)["group"]) == groups


def test_a_group_without_jobs_has_no_cost_per_job() -> None:
    frame = money.costs([point(spent_nano_usd=5, jobs=0)], "model")
    assert frame["per_job_usd"].isna().all()


def test_unpriced_calls_are_counted_and_in_no_sum() -> None:
    frame = money.costs([point(jobs=2, calls=2, unpriced_calls=1, spent_nano_usd=NANO)], "model")
    assert (frame["unpriced_calls"][0], frame["spent_usd"][0]) == (1, 1.0)


def test_causes_say_how_often_and_who_can_do_something() -> None:
    frame = frames.causes(Totals(causes={"provider_timeout": 2, "provider_rate_limited": 5}))
    assert frame.to_dict("list") == {
        "code": ["provider_rate_limited", "provider_timeout"],
        "blame": ["provider throttles", "provider is slow"],
        "jobs": [5, 2],
    }
    assert frames.causes(Totals()).empty


def test_a_job_that_somebody_cancelled_has_no_error_and_is_counted_all_the_same() -> None:
    frame = frames.causes(Totals(cancelled=5, causes={"cancelled": 1, "disconnected": 2}))
    assert dict(zip(frame["code"], frame["jobs"], strict=True)) == {"cancelled": 3, "disconnected": 2}


def test_a_job_that_goes_on_has_no_cost_yet_and_a_free_one_that_ended_has() -> None:
    running, free = worlds.make_job(1, "running"), worlds.make_job(2, "cancelled", cost=worlds.Cost())
    unpriced = worlds.make_job(3, cost=worlds.Cost(nano_usd=None, usd=None, priced=False))
    table = frames.job_table([running, free, unpriced], worlds.now())
    assert table["cost_usd"].isna().tolist() == [True, False, True]
    assert table["cost_usd"][1] == 0


def test_what_a_job_does_not_have_is_missing_and_never_zero_or_a_word() -> None:
    table = frames.job_table([worlds.make_job(1, "queued")], worlds.now())
    row = table.iloc[0]
    for name in ("ttft_s", "total_s", "cost_usd", "input_tokens", "output_tokens"):
        assert pd.isna(row[name])
    assert row["status"] == "○ queued"
    assert row["age"] == "1 min ago"


def test_a_table_of_jobs_says_which_are_simulated() -> None:
    table = frames.job_table([worlds.make_job(1), worlds.make_job(2, simulated=True)], worlds.now())
    assert table["kind"].tolist() == ["real", "simulated"]


def test_jobs_of_one_moment_are_told_apart_by_the_ends_of_their_ids() -> None:
    alike = [worlds.make_job(1, id=f"job_01a22d34{'0' * 23}{n}") for n in (1, 2)]
    assert frames.job_table(alike, AT)["job"].tolist() == ["…00000001", "…00000002"]
    assert frames.letter_table(alike, {}, AT)["job"].is_unique


@pytest.mark.parametrize("rows", [0, 1])
def test_tables_have_their_columns_also_when_they_are_empty(rows: int) -> None:
    job = worlds.make_job(1)
    tables = [
        frames.job_table([job] * rows, AT), frames.ledger_table([worlds.make_row(job)] * rows),
        frames.worker_table([worlds.make_worker()] * rows, AT),
        frames.lane_table(Lanes(lanes=[LaneInfo(lane="p/m")] * rows), AT), money.costs(POINTS[:rows], "model"),
        money.over_time(POINTS[:rows], frames.hours([], AT), "model"),
    ]  # fmt: skip
    assert all(len(t.columns) > 2 for t in tables)
    assert [len(t) for t in tables] == [rows] * 5 + [24 * rows]


def test_an_unpriced_try_has_no_amount_and_an_estimated_one_says_so() -> None:
    job = worlds.make_job(1)
    rows = [worlds.make_row(job, spent_nano_usd=None), worlds.make_row(job, try_no=2, estimated=True)]
    table = frames.ledger_table(rows)
    assert table["spent_usd"].isna().tolist() == [True, False]
    assert table["tokens"].tolist() == ["reported", "estimated"]


@pytest.mark.parametrize(
    ("lane", "state", "why"),
    [
        (LaneInfo(lane="p/m"), "open", ""),
        (LaneInfo(lane="p/m", paused=True, braked_until=AT), "paused", ""),
        (LaneInfo(lane="p/m", braked_until=AT + timedelta(seconds=90), brake_reason="x"), "braked for 1 min 30 s", "x"),
        (LaneInfo(lane="p/m", braked_until=AT - timedelta(seconds=1), brake_reason="x"), "open", ""),
        (LaneInfo(lane="p/m", breaker="half_open"), "on trial", ""),
    ],
)
def test_a_lane_says_what_holds_it_back(lane: LaneInfo, state: str, why: str) -> None:
    row = frames.lane_table(Lanes(lanes=[lane]), AT).iloc[0]
    assert (row["state"], row["why"], row["limits"]) == (state, why, "—")


def test_models_keep_their_places_and_those_that_are_held_back_come_first() -> None:
    lanes = [LaneInfo(lane="p/c", paused=True), LaneInfo(lane="p/b"), LaneInfo(lane="p/a")]
    for known in (lanes, lanes[::-1]):
        assert frames.lane_table(Lanes(lanes=known), AT)["lane"].tolist() == ["p/c", "p/a", "p/b"]


def test_a_day_s_points_fill_the_world_that_the_pages_are_tested_on() -> None:
    stats = worlds.make_stats(POINTS, AT, depth=Depth(queued=1))
    assert stats.last_24h.jobs == sum(p.totals.jobs for p in POINTS)
    assert stats.last_24h.jobs > 1_000, "a checker that sees nothing proves nothing"
