"""The page of costs on what an API may say."""

from __future__ import annotations

import pytest

from onceq.wire import CostPoint
from tests.dashboard import worlds
from tests.dashboard.conftest import Open
from tests.dashboard.fake_api import FakeApi
from tests.dashboard.pages import callouts, marks, tables, tiles


def spent(points: list[CostPoint]) -> int:
    return sum(p.totals.spent_nano_usd for p in points)


def test_the_sums_are_those_of_the_table_below(api: FakeApi, open_page: Open) -> None:
    page = open_page("cost")
    table = tables(page)[0]
    assert tiles(page)["Spent"] == f"${table['spent_usd'].sum():.2f}" == f"${spent(api.world.stats.hours) / 1e9:.2f}"
    assert tiles(page)["Jobs"] == f"{table['jobs'].sum():,}"


@pytest.mark.parametrize(("period", "days"), [("7 days", "day"), ("30 days", "day")])
def test_longer_periods_are_whole_days_and_say_so(api: FakeApi, open_page: Open, period: str, days: str) -> None:
    page = open_page("cost")
    page.button_group(key="cost_period").select(period).run()
    assert page.subheader[0].value == f"Last {period} :gray[· whole days in UTC, today included]"
    assert any(f"interval={days}" in target for target in api.seen)
    assert tiles(page)["Spent"] == f"${spent(api.world.days) / 1e9:.2f}"


@pytest.mark.parametrize(
    ("by", "groups"),
    [("Team", {"search", "support", "(none)"}), ("Provider", {"openai", "anthropic", "bedrock"}),
     ("Band", {"standard"}), ("API key", {"key_1"}), ("Labels", {"prompt=v0", "prompt=v1", "prompt=v2"})],
)  # fmt: skip
def test_costs_are_told_by_what_is_picked(open_page: Open, by: str, groups: set[str]) -> None:
    page = open_page("cost")
    page.button_group(key="cost_by").select(by).run()
    assert set(tables(page)[0]["group"]) == groups
    assert any(m.value.startswith(f"**Spent by {by if by == 'API key' else by.lower()}**") for m in page.markdown)


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
    point = CostPoint(at=at, model="local/llama", totals=worlds.make_totals(3, unpriced_calls=3, spent_nano_usd=0))
    api.world.stats = worlds.make_stats([point])
    page = open_page("cost")
    assert "3 calls of unknown price: in no sum of money here." in [c.value for c in page.caption]
    assert tables(page)[0]["unpriced_calls"].tolist() == [3]


def test_nothing_spent_says_how_to_begin(api: FakeApi, open_page: Open) -> None:
    api.world = worlds.empty()
    page = open_page("cost")
    assert callouts(page) == ["No jobs in the last 24 hours. Submit one, and it appears here:"]


def test_an_api_that_is_away_is_one_sentence(open_page: Open) -> None:
    assert "does not answer" in callouts(open_page("cost", url="http://127.0.0.1:9"))[0]
