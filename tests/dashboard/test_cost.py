"""The page of costs on what an API may say."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from onceq.wire import CostPoint
from onceq_dashboard.format import change
from onceq_dashboard.views import parts
from onceq_dashboard.views.cost import Shown
from tests.dashboard import worlds
from tests.dashboard.conftest import Open, Page
from tests.dashboard.fake_api import FakeApi
from tests.dashboard.pages import callouts, marks, tables, tiles

UNPRICED = worlds.make_totals(
    3, unpriced_calls=3, spent_nano_usd=0, wasted_nano_usd=0, avoided_nano_usd=0, job_costs={}
)


def spent(points: list[CostPoint]) -> int:
    return sum(p.totals.spent_nano_usd for p in points)


def test_the_sums_are_those_of_the_table_below(api: FakeApi, open_page: Open) -> None:
    page = open_page("cost")
    table = tables(page)[-1]
    assert tiles(page)["Spent"] == f"${table['spent_usd'].sum():.2f}" == f"${spent(api.world.stats.hours) / 1e9:.2f}"
    assert tiles(page)["Jobs"] == f"{table['jobs'].sum():,}"


@pytest.mark.parametrize(("period", "days"), [("7 days", 7), ("30 days", 30)])
def test_longer_periods_are_whole_days_and_say_so(api: FakeApi, open_page: Open, period: str, days: int) -> None:
    page = open_page("cost")
    page.button_group(key="cost_period").select(period).run()
    assert page.subheader[0].value == f"Last {period} :gray[· whole days in UTC, today included]"
    assert any("interval=day" in target for target in api.seen)
    first = api.world.stats.at - timedelta(days=days)
    assert tiles(page)["Spent"] == f"${spent([p for p in api.world.days if p.at > first]) / 1e9:.2f}"


def test_what_is_picked_is_in_the_address_to_send_on(open_page: Open) -> None:
    page = open_page("cost", query={"cost_period": "7 days", "cost_by": "Provider"})
    assert page.subheader[0].value.startswith("Last 7 days")
    assert page.button_group(key="cost_by").value == "Provider"
    wrong = open_page("cost", query={"cost_period": "a thousand years"})
    assert wrong.button_group(key="cost_period").value == "24 hours"


def test_a_period_is_compared_with_the_one_before(api: FakeApi, open_page: Open) -> None:
    page = open_page("cost")
    page.button_group(key="cost_period").select("7 days").run()
    midnight = api.world.stats.at.replace(hour=0, minute=0, second=0, microsecond=0)
    week = [midnight - timedelta(days=n) for n in range(14)]
    now, before = (spent([p for p in api.world.days if p.at in days]) for days in (week[:7], week[7:]))
    assert marks(page)["Spent"] == change(now, before)
    table = tables(page)[-1]
    assert table["before_usd"].sum() == pytest.approx(before / 1e9)
    assert (100 * table["spent_usd"] / table["before_usd"] - 100).tolist() == pytest.approx(table["change"].tolist())


def test_where_the_work_began_within_the_period_before_nothing_is_compared(api: FakeApi, open_page: Open) -> None:
    first = api.world.stats.at - timedelta(days=9)
    api.world.days = [p for p in api.world.days if p.at > first]
    page = open_page("cost", query={"cost_period": "7 days"})
    assert not any(marks(page).values())
    assert tables(page)[-1][["before_usd", "change"]].isna().all(axis=None)


@pytest.mark.parametrize(("model", "width"), [("openai/gpt-5", None), ("openai/" + "a-long-name-" * 9, 210)])
def test_a_long_name_leaves_a_phone_room_for_its_numbers(
    api: FakeApi, open_page: Open, model: str, width: int | None
) -> None:
    points = [p.model_copy(update={"model": model}) for p in api.world.stats.hours]
    api.world.stats = api.world.stats.model_copy(update={"hours": points})
    assert json.loads(open_page("cost").dataframe[-1].proto.columns)["group"].get("width") == width


def test_numbers_of_a_column_have_as_many_decimals(open_page: Open) -> None:
    columns = json.loads(open_page("cost").dataframe[-1].proto.columns)
    formats = {columns[name]["label"]: columns[name]["type_config"]["format"] for name in ("spent_usd", "change")}
    assert formats == {"Spent, $": "%.6f", "Change, %": "%+.1f"}


CHARTS = ("spent_over_time", "spent_by_model", "paid_wasted_avoided", "wasted_by_reason", "job_costs", "forecast")


def test_every_chart_and_the_table_can_be_taken_away(open_page: Open) -> None:
    page = open_page("cost", data=CHARTS)
    charts = [m.value for m in page.markdown if m.value.startswith("**") and ":gray[·" in m.value]
    files = [b for b in page.get("download_button") if b.proto.label == "Download CSV"]  # type: ignore[attr-defined]
    assert len(charts) == 6
    assert len(files) == len(charts) + 1


@pytest.mark.parametrize(("period", "column", "zone"), [("24 hours", "hour", None), ("7 days", "day", "UTC")])
def test_days_are_those_of_utc_in_every_zone_and_hours_are_the_reader_s(
    open_page: Open, period: str, column: str, zone: str | None
) -> None:
    page = open_page("cost", query={"cost_period": period}, data=["spent_over_time"])
    table = next(t for t in page.dataframe if column in t.value.columns)
    told = json.loads(table.proto.columns)[column]
    assert told["label"] == {"hour": "Hour from", "day": "Day (UTC)"}[column]
    assert zone is None or told["type_config"] == {"type": "datetime", "format": "YYYY-MM-DD", "timezone": zone}


def test_waste_is_told_by_reason_and_sums_to_the_tile(open_page: Open) -> None:
    page = open_page("cost", data=["wasted_by_reason"])
    waste = next(t for t in tables(page) if "blame" in t.columns)
    assert waste["code"].tolist() == ["stream_broken", "cancelled"]
    assert tiles(page)["Wasted"] == f"${waste['usd'].sum():.3g}"


def test_what_a_job_costs_is_a_distribution_of_all_jobs(api: FakeApi, open_page: Open) -> None:
    page = open_page("cost", data=["job_costs"])
    jobs = next(t for t in tables(page) if "up_to_usd" in t.columns)
    assert jobs["jobs"].sum() == sum(sum(p.totals.job_costs.values()) for p in api.world.stats.hours)
    assert any("Half of the jobs cost at most" in c.value for c in page.caption)


def test_the_answers_name_what_costs_most_what_was_wasted_and_what_was_saved(api: FakeApi, open_page: Open) -> None:
    said = [m.value for m in open_page("cost").markdown]
    by_model = {m: spent([p for p in api.world.stats.hours if p.model == m]) for m in worlds.MODELS}
    dearest = max(by_model, key=lambda m: by_model[m])
    assert any(f"to `{dearest}`" in words for words in said)
    assert any("of it for `stream_broken` (provider fails)" in words for words in said)
    assert any("of what it would have been" in words for words in said)
    assert any("`monthly`" in words and "This month comes to about" in words for words in said)


def test_another_day_s_prices_are_asked_for_by_whom_they_interest(api: FakeApi, open_page: Open) -> None:
    page = open_page("cost", query={"cost_period": "7 days"})
    assert not any("restated_at" in target for target in api.seen)
    page.session_state["cost_restated"] = True
    page.run()
    table = tables(page)[-1]
    assert any("restated_at" in target for target in api.seen)
    assert table["restated_usd"].tolist() == pytest.approx((table["booked_usd"] / 2).tolist(), abs=1e-9)


def test_a_key_that_may_not_see_the_names_of_keys_shows_their_ids(api: FakeApi, open_page: Open) -> None:
    page = open_page("cost")
    page.button_group(key="cost_by").select("API key").run()
    assert tables(page)[-1]["group"].tolist() == ["key_1"]
    api.scopes.add("admin")
    api.forget()
    page.run()
    assert tables(page)[-1]["group"].tolist() == ["this test's"]
    api.world.keys = [worlds.make_key("this test's")]
    api.forget()
    page.run()
    assert tables(page)[-1]["group"].tolist() == ["this test's (key_1)"]


@pytest.mark.parametrize(
    ("by", "groups"),
    [("Team", {"search", "support", "(none)"}), ("Provider", {"openai", "anthropic", "bedrock"}),
     ("Band", {"standard"}), ("API key", {"key_1"}), ("Labels", {"prompt=v0", "prompt=v1", "prompt=v2"})],
)  # fmt: skip
def test_costs_are_told_by_what_is_picked(open_page: Open, by: str, groups: set[str]) -> None:
    page = open_page("cost")
    page.button_group(key="cost_by").select(by).run()
    assert set(tables(page)[-1]["group"]) == groups
    assert any(m.value.startswith(f"**Spent by {by if by == 'API key' else by.lower()}**") for m in page.markdown)
    assert any("ONCEQ_LABEL_KEYS" in caption.value for caption in page.caption) == (by == "Labels")


def test_simulated_costs_are_marked_in_tiles_heading_and_file(api: FakeApi, open_page: Open) -> None:
    api.world = worlds.simulated()
    page = open_page("cost")
    assert page.subheader[0].value == "Last 24 hours, simulated"
    assert {label for label, mark in marks(page).items() if mark == "simulated"} == {
        "Spent", "Cost per job", "Wasted", "Avoided",
    }  # fmt: skip
    assert page.warning[0].value.startswith("**SIMULATED.**")


def test_real_and_simulated_costs_are_apart(api: FakeApi, open_page: Open) -> None:
    real, simulated = api.world.stats.hours, worlds.simulated().stats.hours
    api.world.stats = worlds.make_stats([*real, *simulated], api.world.stats.at)
    page = open_page("cost")
    assert tiles(page)["Spent"] == f"${spent(real) / 1e9:.2f}"
    page.button_group(key="cost_kind").select("Simulated").run()
    assert tiles(page)["Spent"] == f"${spent(simulated) / 1e9:.3f}"


def test_unpriced_calls_are_told(api: FakeApi, open_page: Open) -> None:
    at = worlds.now().replace(minute=0, second=0, microsecond=0)
    point = CostPoint(at=at, model="local/llama", totals=UNPRICED)
    api.world.stats = worlds.make_stats([point])
    page = open_page("cost")
    assert any(c.value.startswith("3 calls of unknown price: in no sum of money here.") for c in page.caption)
    assert [tiles(page)[name] for name in ("Spent", "Cost per job", "Wasted", "Avoided")] == ["—"] * 4
    table = tables(page)[-1]
    assert table["unpriced_calls"].tolist() == [3]
    assert table[["spent_usd", "wasted_usd", "avoided_usd", "per_job_usd"]].isna().all(axis=None)
    assert sum(m.value == "That is not known: no call has a known price." for m in page.markdown) == 2


@pytest.mark.parametrize(("nano", "lines"), [(0, []), (2 * 10**9, ["Of what was spent \\$2.00 (20.0 %) is estimated"])])
def test_what_rests_on_estimates_is_a_line_of_its_own(
    api: FakeApi, open_page: Open, nano: int, lines: list[str]
) -> None:
    at = worlds.now().replace(minute=0, second=0, microsecond=0)
    totals = worlds.make_totals(10, spent_nano_usd=10**10, estimated_nano_usd=nano)
    api.world.stats = worlds.make_stats([CostPoint(at=at, model="p/m", totals=totals)])
    told = [c.value for c in open_page("cost").caption if "estimated" in c.value]
    assert [line.partition(":")[0] for line in told] == lines


def test_where_some_calls_have_no_price_the_sums_say_at_least_and_a_job_costs_what_the_others_do(
    api: FakeApi, open_page: Open
) -> None:
    at = worlds.now().replace(minute=0, second=0, microsecond=0)
    points = [CostPoint(at=at, model="local/llama", totals=UNPRICED),
              CostPoint(at=at, model="p/m", totals=worlds.make_totals(10, spent_nano_usd=10**10))]  # fmt: skip
    api.world.stats = worlds.make_stats(points)
    page = open_page("cost")
    assert (tiles(page)["Spent"], tiles(page)["Cost per job"]) == ("≥ $10.00", "$1.00")
    assert tables(page)[-1]["spent_usd"].isna().tolist() == [False, True]


def test_nothing_spent_says_how_to_begin(api: FakeApi, open_page: Open) -> None:
    api.world = worlds.empty()
    page = open_page("cost")
    assert callouts(page) == ["No jobs in the last 24 hours. Submit one, and it appears here:"]


@pytest.mark.parametrize("name", ["cost", "latency", "budgets", "failures"])
def test_an_api_that_is_away_is_asked_once_told_in_one_sentence_and_tried_again(
    api: FakeApi, open_page: Open, name: Page
) -> None:
    with api.away():
        page = open_page(name)
        assert ["does not answer" in said for said in callouts(page)] == [True]
        assert api.cut == 2, "once, and once more by the SDK: a hang takes no longer than that"
    next(button for button in page.button if button.label == "Try again").click().run()
    assert not page.error
    assert tiles(page) or tables(page)


def test_another_day_s_prices_are_of_whole_days_and_not_offered_beside_the_sums_of_hours(open_page: Open) -> None:
    def offered(period: str) -> bool:
        page = open_page("cost", query={"cost_period": period})
        return any(box.label == "At another day's prices" for box in page.expander)

    assert [offered(period) for period in ("24 hours", "7 days", "This month")] == [False, True, True]


def test_a_chart_s_file_says_of_which_time_grouping_and_work_it_is(api: FakeApi, open_page: Open) -> None:
    api.world = worlds.simulated()
    shown = open_page("cost", query={"cost_by": "API key"})
    assert shown.subheader[0].value.endswith(", simulated")
    assert Shown("7 days", "API key", "key", True).file == "7 days by API key simulated"
    assert parts.file_name("data_spent_over_time", "7 days by API key simulated").startswith(
        "onceq-spent-over-time-7-days-by-api-key-simulated-2"
    )
