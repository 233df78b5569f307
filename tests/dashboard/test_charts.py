"""Charts as Vega-Lite reads them; that a browser draws them is shown in test_browser.py."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd
import pytest

from onceq.wire import Totals
from onceq_dashboard import charts, frames, money, money_charts
from onceq_dashboard.causes import BLAMES
from tests.dashboard import worlds

AT = worlds.now()
POINTS = worlds.make_hours(AT)
COSTS = money.costs(POINTS, "model")
CAUSES = frames.causes(Totals(causes={"provider_timeout": 2, "worker_lost": 1}))
ALL: dict[str, alt.Chart] = {
    "outcomes": charts.outcomes(frames.outcomes_by_hour(POINTS, AT)),
    "ttft": charts.ttft(frames.ttft_by_hour(POINTS, AT)),
    "spend": money_charts.over_time(money.over_time(POINTS, frames.hours(POINTS, AT), "model"), "model", "hour"),
    "causes": charts.causes(CAUSES),
    "spend_by_group": money_charts.by_group(COSTS, "Model"),
}


def spec(chart: alt.Chart) -> dict[str, Any]:
    """As the browser gets it; raises when it does not fit Vega-Lite's schema."""
    return chart.to_dict()


def values(chart: alt.Chart) -> list[dict[str, Any]]:
    return next(iter(spec(chart)["datasets"].values()))


@pytest.mark.parametrize("name", ALL)
def test_every_chart_fits_the_schema_and_holds_its_data(name: str) -> None:
    assert values(ALL[name])


@pytest.mark.parametrize("name", ["outcomes", "ttft", "spend"])
def test_a_day_is_always_the_same_twenty_four_hours_wide(name: str) -> None:
    assert len({row.get("hour") or row["at"] for row in values(ALL[name])}) == 24


@pytest.mark.parametrize("name", ALL)
def test_no_chart_cuts_an_axis_above_zero(name: str) -> None:
    encoding: dict[str, Any] = spec(ALL[name])["encoding"]
    assert [encoding[axis].get("scale", {}).get("zero") for axis in ("x", "y")].count(False) == 0


def test_models_keep_their_order_and_colours_by_expense() -> None:
    colour = spec(ALL["spend"])["encoding"]["color"]
    assert colour["scale"]["domain"] == money.biggest(POINTS, "model", 6)
    assert colour["scale"]["range"] == list(charts.PALETTE[:3])


def test_a_legend_names_the_provider_where_the_model_s_name_alone_would_be_two() -> None:
    def label(*models: str) -> str:
        frame = pd.DataFrame({"at": [AT] * len(models), "group": models, "usd": [1.0] * len(models)})
        return spec(money_charts.over_time(frame, "model", "hour"))["encoding"]["color"]["legend"]["labelExpr"]

    assert "slice" in label("openai/gpt-4o-mini", "anthropic/claude-haiku-4-5", frames.OTHER)
    assert label("openai/gpt-4o-mini", "azure/gpt-4o-mini") == "datum.label"
    assert label("<b>x</b>") == "datum.label"


def test_a_blame_keeps_its_colour_whatever_else_there_is() -> None:
    scale = spec(ALL["causes"])["encoding"]["color"]["scale"]
    names = [*BLAMES, "other"]
    assert scale["domain"] == ["provider is slow", "our side"]
    assert scale["range"] == [charts.BLAME_COLOURS[names.index(b)] for b in scale["domain"]]


def test_used_and_wasted_add_up_to_what_was_spent() -> None:
    rows = values(ALL["spend_by_group"])
    assert {row["part"] for row in rows} == {"in answers", "wasted"}
    assert sum(row["usd"] for row in rows) == pytest.approx(COSTS["spent_usd"].sum())


def test_of_many_groups_the_most_expensive_are_drawn() -> None:
    many = pd.concat([COSTS.head(1).assign(group=f"p/m{n}") for n in range(20)], ignore_index=True)
    assert len({row["group"] for row in values(money_charts.by_group(many, "Model"))}) == charts.TOP_GROUPS
