"""Money as frames and sentences: parts sum to their whole, nothing is lost, and a forecast says how sure it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onceq.wire import NANO, BudgetAlert, BudgetUse, CostPoint, Totals
from onceq.wire.phases import Verdict
from onceq_dashboard import answers, budgets, frames, money, periods
from onceq_dashboard.forecast import Forecast, forecast, lines
from tests.dashboard import golden, worlds

AT = datetime(2026, 11, 24, 14, 35, 12, tzinfo=UTC)
POINTS = worlds.make_hours(AT)
STARTS = periods.current("24 hours", AT).starts()


def test_paid_and_wasted_sum_to_what_was_spent_and_avoided_is_beside_it() -> None:
    frame = money.parts_over_time(POINTS, STARTS)
    sums, whole = frame.groupby("part")["usd"].sum(), frames.added(POINTS)
    assert sums["in answers"] + sums["wasted"] == pytest.approx(whole.spent_nano_usd / NANO)
    assert sums["avoided"] == pytest.approx(whole.avoided_nano_usd / NANO)


def test_every_part_of_a_sum_is_added_up_by_its_name() -> None:
    whole = frames.added(POINTS)
    assert sum(whole.wasted_by_reason.values()) == sum(sum(p.totals.wasted_by_reason.values()) for p in POINTS)
    assert sum(whole.job_costs.values()) == whole.jobs
    assert whole.verdicts["queue"] == sum(p.totals.verdicts.get("queue", 0) for p in POINTS)


costs = st.dictionaries(st.integers(1, 60), st.integers(1, 10**6), min_size=1, max_size=30)


@settings(deadline=None)
@given(costs)
def test_the_dearest_jobs_have_at_least_their_part_of_the_bill_and_no_job_is_lost(counts: dict[int, int]) -> None:
    totals = Totals(job_costs={round((2 ** (n / 4) - 1) * 1000): jobs for n, jobs in counts.items()})
    spread = money.spread(totals)
    assert spread is not None
    assert spread.p50 <= spread.p95
    assert 0.049 <= spread.dear_share <= 1.0
    assert money.job_costs(totals)["jobs"].sum() + spread.free == sum(counts.values())


def test_the_ranges_of_what_a_job_costs_touch_and_never_overlap() -> None:
    edges = [round((2 ** (n / 4) - 1) * 1000) for n in range(2, 120)]
    frame = money.job_costs(Totals(job_costs=dict.fromkeys(edges, 1)))
    assert len(frame) > 100
    assert frame["over_usd"].tolist()[1:] == frame["up_to_usd"].tolist()[:-1]


def test_versions_of_a_prompt_are_told_apart_by_few_letters() -> None:
    assert money.labels_words({"version": "v1", "prompt": "memo"}) == "memo · v1"
    assert money.labels_words({"version": "v1"}) == "version=v1"
    assert money.labels_words({"prompt": "memo", "step": "2"}) == "prompt=memo, step=2"


def test_no_job_of_known_cost_is_no_distribution() -> None:
    assert money.spread(Totals()) is None
    assert money.job_costs(Totals()).empty


def test_another_day_s_price_that_is_unknown_is_no_number() -> None:
    known, unknown = (
        p.model_copy(update={"restated_nano_usd": nano}) for p, nano in zip(POINTS[:2], (5, None), strict=True)
    )
    frame = money.restated([known, unknown, known], "model").set_index("group")
    assert frame.loc[known.model, "restated_usd"] == 10 / NANO
    assert frame["restated_usd"].isna().tolist().count(True) == 1


@pytest.mark.parametrize("name", periods.NAMES)
@pytest.mark.parametrize("day", [1, 15, 31])
def test_a_period_and_the_one_before_are_as_long_and_touch_and_never_overlap(name: periods.Name, day: int) -> None:
    at = AT.replace(month=12, day=day)
    this, before = periods.current(name, at), periods.before(name, at)
    assert this.starts()[-1] <= at
    assert before.starts()[-1] < this.since
    if name != "This month":
        assert len(this.starts()) == len(before.starts())
        assert this.since - before.starts()[-1] == this.starts()[1] - this.since
    else:
        assert before.since == datetime(2026, 11, 1, tzinfo=UTC)
        assert len(before.starts()) == min(day, 30)


@pytest.mark.parametrize(("days", "covered"), [(0, True), (1, True), (4, False), (6, False)])
def test_a_period_in_which_the_work_began_late_is_compared_with_nothing(days: int, covered: bool) -> None:
    week = periods.before("7 days", AT)
    assert periods.covers([week.since + timedelta(days=days), week.until], week) == covered
    assert not periods.covers([], week)


def by_day(usd: dict[datetime, float]) -> list[CostPoint]:
    return [CostPoint(at=at, totals=Totals(spent_nano_usd=round(x * NANO))) for at, x in usd.items()]


def weeks(at: datetime, *, weekday: float, weekend: float, days: int = 40) -> list[CostPoint]:
    whole = [periods.day_of(at) - timedelta(days=n) for n in range(1, days)]
    return by_day({day: weekend if day.weekday() > 4 else weekday for day in whole})


def test_a_month_that_goes_on_as_before_comes_to_what_such_days_cost() -> None:
    found = forecast(weeks(AT, weekday=10, weekend=1), AT)
    days = [datetime(2026, 11, n, tzinfo=UTC) for n in range(1, 31)]
    assert found.end == sum(1 if day.weekday() > 4 else 10 for day in days) * NANO
    assert found.low == found.high == found.end, "days that never vary leave no doubt"


def test_a_day_that_cost_more_already_counts_with_what_it_cost() -> None:
    usual = weeks(AT, weekday=10, weekend=10)
    dear = forecast([*usual, *by_day({periods.day_of(AT): 50})], AT)
    assert dear.end == (29 * 10 + 50) * NANO


def test_days_that_vary_make_a_range_that_begins_at_what_is_spent() -> None:
    varied = [p.model_copy(update={"totals": Totals(spent_nano_usd=NANO * (n % 7) ** 2)})
              for n, p in enumerate(weeks(AT, weekday=1, weekend=1))]  # fmt: skip
    found = forecast(varied, AT)
    assert found.end is not None
    assert found.low is not None
    assert found.high is not None
    assert found.spent <= found.low <= found.end <= found.high


@pytest.mark.parametrize("days", [0, 1, 2])
def test_too_few_days_are_no_forecast(days: int) -> None:
    found = forecast(weeks(AT, weekday=10, weekend=10, days=days + 1), AT)
    assert (found.end, found.spent) == (None, days * 10 * NANO)
    assert set(lines(found, AT)["line"]) == {"spent"}


def test_the_line_of_the_forecast_begins_where_the_money_ends_and_leads_to_the_sum() -> None:
    found = forecast(weeks(AT, weekday=10, weekend=1), AT)
    frame = lines(found, AT)
    ends = frame.groupby("line")["usd"].last()
    assert ends["spent"] == found.spent / NANO
    assert ends["forecast"] == pytest.approx((found.end or 0) / NANO)
    golden.check("forecast", frame)


def month(end: int, low: int, high: int) -> Forecast:
    return Forecast(AT, 10, end * NANO, low * NANO, high * NANO, ())


@pytest.mark.parametrize(
    ("found", "said", "look"),
    [(month(50, 40, 60), "within the \\$100.00 of `monthly`", False), (month(90, 80, 120), "perhaps more than", True),
     (month(150, 140, 160), ", more than the", True)],
)  # fmt: skip
def test_whether_the_month_stays_in_budget_is_said_with_its_doubt(found: Forecast, said: str, look: bool) -> None:
    answer = answers.month(found, {"monthly": 100 * NANO, "wide": 500 * NANO})
    assert said in answer.words
    assert answer.look == look


def test_a_budget_for_a_part_of_the_work_is_no_limit_of_the_month() -> None:
    found = [worlds.make_budget(), worlds.make_budget("team", team="search"), worlds.make_budget("day", period="day")]
    assert budgets.month_limits(found) == {"monthly": 100 * NANO}
    assert budgets.limits(found)["usd"].tolist() == [100.0]


def test_budgets_are_told_as_they_stand() -> None:
    over = worlds.make_budget("search", 20, 25, team="search", mode="soft", labels={"b": "2", "a": "1"})
    found = budgets.fullest_first([worlds.make_budget(), over], simulated=False)
    assert [b.name for b in found] == ["search", "monthly"]
    assert budgets.scope_words(over) == "team `search`, labels `a=1, b=2`"
    assert budgets.filled(over, simulated=False) == "$27.00 of $20.00, 135.0 %"
    assert budgets.stands(over, worlds.now(), simulated=False).startswith(
        "**\\$7.00 over** · \\$25.00 spent · \\$2.00 reserved · renews in 1"
    )
    early = worlds.make_budget(use=BudgetUse(spent_nano_usd=NANO, reserved_nano_usd=4 * NANO, forecast_nano_usd=NANO))
    assert budgets.stands(early, worlds.now(), simulated=False).endswith("at this pace \\$5.00"), "as its bar says"
    assert budgets.is_near(over, simulated=False)
    assert not budgets.is_near(worlds.make_budget(), simulated=True)
    golden.check("budgets", budgets.table(found, simulated=False))


def test_a_budget_says_what_was_passed_and_refused_and_when() -> None:
    at = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
    told = [BudgetAlert(share=0.5, at=at - timedelta(days=3)), BudgetAlert(share=0.8, at=at),
            BudgetAlert(share=None, at=at + timedelta(hours=1))]  # fmt: skip
    passed = worlds.make_budget(use=BudgetUse(alerts=told[:2]))
    assert budgets.alerted(passed, UTC, simulated=False) == "passed 80 % on 20 Nov, 09:30"
    refusing = worlds.make_budget(use=BudgetUse(alerts=told, refused_posts=12))
    said = "passed 80 % on 20 Nov, 09:30 · 12 posts refused, the first on 20 Nov, 10:30"
    assert budgets.alerted(refusing, UTC, simulated=False) == said
    waiting = worlds.make_budget(use=BudgetUse(alerts=told[2:]))
    assert budgets.alerted(waiting, UTC, simulated=False) == "no room for a further call since 20 Nov, 10:30"
    assert budgets.alerted(refusing, UTC, simulated=True) is None


@pytest.mark.parametrize(
    ("verdicts", "words"),
    [
        ({"queue": 1}, "1 of 40 jobs was slow or failed. Of this one: queue: too few workers, or our own limits."),
        ({"budget": 2}, "2 of 40 jobs were slow or failed. All of these: a budget."),
        ({"budget": 1, "our_code": 3}, "4 of 40 jobs were slow or failed. Of these 75.0 %: our code."),
    ],
)
def test_who_is_to_blame_is_a_sentence_for_one_job_and_for_more(verdicts: dict[Verdict, int], words: str) -> None:
    assert answers.to_blame(Totals(succeeded=40, verdicts=verdicts)).words == words
