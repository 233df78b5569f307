"""The frames of `latency.py` as charts. Pure."""

from __future__ import annotations

from typing import Final

import altair as alt
import pandas as pd

from onceq.wire.phases import VERDICTS
from onceq_dashboard.charts import (
    HEIGHT_PX,
    PADDING,
    PALETTE,
    count_axis,
    group_legend,
    hour_axis,
    hour_tip,
    scale,
    words_legend,
)
from onceq_dashboard.latency import PARTS, busiest

MOST_LINES: Final = len(PALETTE)
_ROW_PX, _PHASES_PX = 26, 120


def quantile(frame: pd.DataFrame, column: str, title: str, days: int) -> alt.Chart:
    """One quantile by hour, a line for each of the `MOST_LINES` groups with most jobs; an hour without is a gap."""
    groups = busiest(frame, MOST_LINES)
    shown = frame.loc[frame["group"].isin(groups), ["hour", "group", column]].rename(columns={column: "seconds"})
    chart = alt.Chart(shown).mark_line(
        point=alt.OverlayMarkDef(filled=True, size=22), strokeWidth=2, invalid="break-paths-filter-domains"
    )
    return chart.encode(
        x=alt.X("hour:T", title=None, axis=hour_axis(days)),
        y=alt.Y("seconds:Q", title="seconds", scale=alt.Scale(zero=True), axis=alt.Axis(tickCount=5, labelFlush=False)),
        color=alt.Color("group:N", title="", scale=scale(groups, PALETTE), sort=groups, legend=group_legend(groups)),
        tooltip=[hour_tip(), alt.Tooltip("group:N", title=title), alt.Tooltip("seconds:Q", format=".3~f")],
    ).properties(height=HEIGHT_PX, padding=PADDING)


def phases(frame: pd.DataFrame, days: int) -> alt.Chart:
    """Seconds a job by hour, stacked by the parts of its life."""
    return _stacked(frame, "seconds", "part", list(PARTS), days, ".3~f")


def verdicts(frame: pd.DataFrame, days: int) -> alt.Chart:
    """Jobs by hour that were slow or failed, stacked by who made them so."""
    return _stacked(frame, "jobs", "verdict", list(VERDICTS), days, ",d")


def _stacked(frame: pd.DataFrame, value: str, by: str, names: list[str], days: int, form: str) -> alt.Chart:
    unit = "seconds a job" if value == "seconds" else "jobs"
    axis = alt.Axis(tickCount=5, labelFlush=False, format="~s") if value == "seconds" else count_axis()
    return (
        alt.Chart(frame)
        .mark_bar()
        .encode(
            x=alt.X("hour:T", timeUnit="yearmonthdatehours", title=None, axis=hour_axis(days)),
            y=alt.Y(f"sum({value}):Q", title=unit, axis=axis),
            color=alt.Color(f"{by}:N", title="", scale=scale(names, PALETTE), sort=names, legend=words_legend(names)),
            order=alt.Order("rank:Q"),
            tooltip=[hour_tip(), alt.Tooltip(f"{by}:N"), alt.Tooltip(f"{value}:Q", format=form, title=unit)],
        )
        .transform_calculate(rank=f"indexof({names}, datum.{by})")
        .properties(height=HEIGHT_PX, padding=PADDING)
    )


def waterfall(frame: pd.DataFrame) -> alt.Chart:
    """A job's phases, each bar where the one before ends."""
    names = [part for part in PARTS if part in set(frame["part"])]
    colours = tuple(PALETTE[list(PARTS).index(part)] for part in names)
    order = list(frame["phase"])
    return (
        alt.Chart(frame)
        .mark_bar()
        .encode(
            x=alt.X("from_s:Q", title="seconds", axis=alt.Axis(tickCount=6, labelFlush=False)),
            x2="to_s:Q",
            y=alt.Y("phase:N", title=None, sort=order, axis=alt.Axis(labelLimit=_PHASES_PX, ticks=False, domain=False)),
            color=alt.Color(
                "part:N", title="", scale=scale(names, colours), sort=names, legend=words_legend(names, _PHASES_PX)
            ),
            tooltip=["phase:N", alt.Tooltip("seconds:Q", format=".3~f"), alt.Tooltip("part:N")],
        )
        .properties(height=_ROW_PX * len(frame) + 90, padding=PADDING)
    )
