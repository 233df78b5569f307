"""The frames of `money.py` and `forecast.py` as charts. Pure.

Hours are in the reader's own zone, days are those of UTC, in which sums are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import altair as alt
import pandas as pd

from onceq_dashboard.charts import (
    HEIGHT_PX,
    OUTCOME_COLOURS,
    PADDING,
    PALETTE,
    TOP_GROUPS,
    bar_px,
    blame_colour,
    count_axis,
    group_legend,
    hour_axis,
    legend,
    name_axis,
    names_legend,
    row_scale,
    scale,
)
from onceq_dashboard.money import PARTS

PART_COLOURS: Final = (PALETTE[0], OUTCOME_COLOURS[1], OUTCOME_COLOURS[0])
"""As `PARTS`: in answers, wasted, avoided."""
LIMIT_COLOUR: Final = OUTCOME_COLOURS[1]
LINES: Final = ("spent", "forecast", "budget")
_ROW_PX: Final = 30
_AROUND_PX: Final = 72
_CENTS: Final = "$.6~f"


def over_time(frame: pd.DataFrame, title: str, interval: str) -> alt.Chart:
    """US dollars by hour or day, stacked by group."""
    groups = list(dict.fromkeys(frame["group"]))
    chart = alt.Chart(frame).mark_bar()
    return chart.encode(
        x=_bars(interval),
        y=alt.Y("sum(usd):Q", title=None, axis=dollar_axis()),
        color=alt.Color("group:N", title="", scale=scale(groups, PALETTE), sort=groups, legend=group_legend(groups)),
        tooltip=[_from(interval), alt.Tooltip("group:N", title=title), _usd()],
    ).properties(height=HEIGHT_PX, padding=PADDING)


def parts_over_time(frame: pd.DataFrame, interval: str) -> alt.Chart:
    """What was paid, and above it, paler, what was not: the whole bar is the bill without the queue."""
    chart = alt.Chart(frame).mark_bar()
    return (
        chart.encode(
            x=_bars(interval),
            y=alt.Y("sum(usd):Q", title=None, axis=dollar_axis()),
            color=alt.Color(
                "part:N", title="", scale=scale(PARTS, PART_COLOURS), sort=list(PARTS), legend=legend(PARTS)
            ),
            opacity=alt.condition("datum.part == 'avoided'", alt.value(0.55), alt.value(1.0)),
            order=alt.Order("rank:Q"),
            tooltip=[_from(interval), "part:N", _usd()],
        )
        .transform_calculate(rank=f"indexof({list(PARTS)}, datum.part)")
        .properties(height=HEIGHT_PX, padding=PADDING)
    )


def by_group(frame: pd.DataFrame, title: str) -> alt.Chart:
    """US dollars by group, what is in answers and what was wasted apart; the `TOP_GROUPS` first rows."""
    shown = frame.head(TOP_GROUPS)
    parts = pd.DataFrame({
        "group": shown["group"], PARTS[0]: (shown["spent_usd"] - shown["wasted_usd"]).clip(lower=0),
        PARTS[1]: shown["wasted_usd"],
    }).melt("group", var_name="part", value_name="usd")  # fmt: skip
    chart = alt.Chart(parts).mark_bar(height=bar_px(len(shown)))
    return chart.encode(
        x=alt.X("sum(usd):Q", title=None, axis=dollar_axis()),
        y=alt.Y("group:N", title=None, sort=list(shown["group"]), axis=name_axis(), scale=row_scale()),
        color=alt.Color(
            "part:N", title="", scale=scale(PARTS[:2], PART_COLOURS), legend=names_legend(PARTS[:2], shown["group"])
        ),
        tooltip=[alt.Tooltip("group:N", title=title), "part:N", _usd()],
    ).properties(height=max(HEIGHT_PX, _ROW_PX * len(shown) + _AROUND_PX), padding=PADDING)


def waste(frame: pd.DataFrame) -> alt.Chart:
    """Wasted US dollars by reason, the dearest first; the colour tells whom to ask."""
    shown = frame.head(TOP_GROUPS)
    chart = alt.Chart(shown).mark_bar(height=bar_px(len(shown)))
    return chart.encode(
        x=alt.X("usd:Q", title=None, axis=dollar_axis()),
        y=alt.Y("code:N", title=None, sort=list(shown["code"]), axis=name_axis(), scale=row_scale()),
        color=blame_colour(shown),
        tooltip=[alt.Tooltip("code:N", title="why"), "blame:N", _usd()],
    ).properties(height=HEIGHT_PX, padding=PADDING)


def job_costs(frame: pd.DataFrame, marks: Mapping[str, float]) -> alt.LayerChart:
    """How many jobs cost how much, on a logarithmic axis; `marks` are names of lines and their US dollars."""
    axis = alt.Axis(format="$,.4~r", grid=False, labelOverlap=True, tickCount=6, labelFlush=False)
    bars = (
        alt.Chart(frame)
        .mark_bar(color=PALETTE[0], binSpacing=1)
        .encode(
            x=alt.X("over_usd:Q", title=None, scale=alt.Scale(type="log", nice=False), axis=axis),
            x2="up_to_usd:Q",
            y=alt.Y("jobs:Q", title=None, axis=count_axis()),
            y2=alt.datum(0),
            tooltip=[
                alt.Tooltip("over_usd:Q", format=_CENTS, title="over, US dollars"),
                alt.Tooltip("up_to_usd:Q", format=_CENTS, title="up to, US dollars"),
                alt.Tooltip("jobs:Q", format=",d"),
            ],
        )
    )
    named = pd.DataFrame({"name": list(marks), "usd": list(marks.values())})
    rules = (
        alt.Chart(named)
        .mark_rule(strokeWidth=2, strokeDash=[4, 3])
        .encode(
            x="usd:Q",
            color=alt.Color(
                "name:N", title="", scale=scale(list(marks), (PALETTE[2], PALETTE[1])), legend=legend(list(marks))
            ),
            tooltip=["name:N", _usd()],
        )
    )
    return alt.LayerChart(layer=[bars, rules]).properties(height=HEIGHT_PX, padding=PADDING)


def forecast(frame: pd.DataFrame, limits: pd.DataFrame) -> alt.LayerChart:
    """US dollars in sum since the month began; `limits` has `name` and `usd` of each budget."""
    lines = (
        alt.Chart(frame)
        .mark_line(strokeWidth=2.5)
        .encode(
            x=alt.X(
                "day:T", title=None, scale=alt.Scale(type="utc"),
                axis=alt.Axis(format="%-d %b", labelOverlap=True, grid=False, tickCount=8),
            ),
            y=alt.Y("usd:Q", title=None, axis=dollar_axis()),
            color=alt.Color(
                "line:N", title="", legend=legend(LINES),
                scale=scale(LINES, (PALETTE[0], PALETTE[6], LIMIT_COLOUR)),
            ),
            strokeDash=alt.condition("datum.line == 'spent'", alt.value([1, 0]), alt.value([5, 4])),
            tooltip=[alt.Tooltip("day:T", format="%a %d %b", title="until the end of"), "line:N", _usd()],
        )
    )  # fmt: skip
    if limits.empty:
        return alt.LayerChart(layer=[lines]).properties(height=HEIGHT_PX, padding=PADDING)
    rules = (
        alt.Chart(limits.assign(line="budget"))
        .mark_rule(strokeWidth=2)
        .encode(y="usd:Q", color="line:N", tooltip=[alt.Tooltip("name:N", title="budget"), _usd()])
    )
    return alt.LayerChart(layer=[lines, rules]).properties(height=HEIGHT_PX, padding=PADDING)


def dollar_axis() -> alt.Axis:
    """US dollars, as short as they can be said."""
    return alt.Axis(format="$,.4~r", tickCount=5, labelFlush=False)


def _usd() -> alt.Tooltip:
    return alt.Tooltip("usd:Q", format=_CENTS, title="US dollars")


def _bars(interval: str) -> alt.X:
    if interval == "hour":
        return alt.X("at:T", timeUnit="yearmonthdatehours", title=None, axis=hour_axis())
    axis = alt.Axis(format="%-d %b", labelOverlap=True, grid=False, tickCount=8)
    return alt.X("at:T", timeUnit="utcyearmonthdate", title=None, axis=axis, scale=alt.Scale(type="utc"))


def _from(interval: str) -> alt.Tooltip:
    if interval == "hour":
        return alt.Tooltip("at:T", format="%a %d %b, %H:%M", title="hour from")
    return alt.Tooltip("at:T", timeUnit="utcyearmonthdate", format="%a %d %b", title="day (UTC)")
