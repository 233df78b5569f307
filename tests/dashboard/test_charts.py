"""Charts as Vega-Lite reads them; that a browser draws them is shown in test_browser.py."""

from __future__ import annotations

import re
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
    assert "slice(datum.label, -10) : datum.label" in label("a/" + "x" * 30, "b/" + "x" * 30), "its end is seen"


PHONE_PX, DESK_PX = 326, 640
"""How wide the place of such a chart is on a phone, and of one of two on a desk."""
AXIS_PX = 50
MODELS = (
    "claude-sonnet-4-5",
    "gpt-4o",
    "gpt-5",
    "claude-haiku-4-5",
    "gpt-4o-mini",
    "amazon.nova-pro-v1:0",
    "all others",
)


def columns_of(legend: dict[str, Any], width: int) -> int:
    """What the browser makes of "place >= 600 ? 3 : place >= 300 ? 2 : 1"."""
    *cases, last = legend["columns"]["expr"].split(" : ")
    fitting = (re.fullmatch(r"containerSize\(\)\[0\] \+ 0 \* width >= (\d+) \? (\d+)", case) for case in cases)
    return next((int(case[2]) for case in fitting if case and width >= int(case[1])), int(last))


@pytest.mark.parametrize("width", [PHONE_PX, DESK_PX, 2000])
@pytest.mark.parametrize("names", [MODELS, ("v" * 400, "w" * 400), ("a", "b"), ("one",)])
def test_a_legend_has_as_many_columns_as_fit_and_no_more(names: tuple[str, ...], width: int) -> None:
    frame = pd.DataFrame({"at": [AT] * len(names), "group": names, "usd": [1.0] * len(names)})
    columns = columns_of(spec(money_charts.over_time(frame, "Model", "hour"))["encoding"]["color"]["legend"], width)

    def needed(columns: int) -> float:
        return AXIS_PX + sum(min(150, 6.2 * max(map(len, names[at::columns]))) + 15 for at in range(columns))

    assert columns == 1 or needed(columns) <= width
    assert columns == len(names) or needed(columns + 1) > 0.8 * width


@pytest.mark.parametrize("name", ALL)
def test_no_legend_asks_how_wide_the_plot_is_which_depends_on_the_legend(name: str) -> None:
    legend = spec(ALL[name])["encoding"]["color"]["legend"]
    assert "width" not in legend["columns"]["expr"].replace("containerSize()[0] + 0 * width", "place")


def test_a_blame_keeps_its_colour_whatever_else_there_is() -> None:
    scale = spec(ALL["causes"])["encoding"]["color"]["scale"]
    names = list(BLAMES)
    assert scale["domain"] == ["provider is slow", "our side"]
    assert scale["range"] == [charts.BLAME_COLOURS[names.index(b)] for b in scale["domain"]]


def test_used_and_wasted_add_up_to_what_was_spent() -> None:
    rows = values(ALL["spend_by_group"])
    assert {row["part"] for row in rows} == {"in answers", "wasted"}
    assert sum(row["usd"] for row in rows) == pytest.approx(COSTS["spent_usd"].sum())


def test_of_many_groups_the_most_expensive_are_drawn() -> None:
    many = pd.concat([COSTS.head(1).assign(group=f"p/m{n}") for n in range(20)], ignore_index=True)
    assert len({row["group"] for row in values(money_charts.by_group(many, "Model"))}) == charts.TOP_GROUPS
