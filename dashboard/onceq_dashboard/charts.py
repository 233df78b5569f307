"""Frames as charts. Pure; the frames' columns are told in `frames.py`. Colours hold on light and dark ground.

Time axes are in the reader's own zone (Vega's default), with a fixed number of hours, so that nothing jumps.
"""

from __future__ import annotations

from typing import Final

import altair as alt
import pandas as pd

from onceq_dashboard.frames import OUTCOMES

HEIGHT_PX: Final = 260
OUTCOME_COLOURS: Final = ("#2e9e6b", "#e0504a", "#8a93a3", "#d99a2b")
"""succeeded, failed, cancelled, expired."""
PALETTE: Final = ("#4c7ef3", "#12a594", "#a667e4", "#e58a2e", "#d6569a", "#6fae3d", "#8a93a3")
_P50, _P95 = PALETTE[0], PALETTE[3]


def outcomes(frame: pd.DataFrame) -> alt.Chart:
    """Jobs that ended, by hour, stacked by outcome."""
    colours = alt.Scale(domain=list(OUTCOMES), range=list(OUTCOME_COLOURS))
    chart = alt.Chart(frame).mark_bar()
    return chart.encode(
        x=_hour_bars(),
        y=alt.Y("sum(jobs):Q", title="jobs", axis=alt.Axis(tickMinStep=1, format="~s")),
        color=alt.Color("outcome:N", scale=colours, legend=_legend()),
        tooltip=[_hour_tip(), alt.Tooltip("outcome:N"), alt.Tooltip("jobs:Q", format=",d")],
    ).properties(height=HEIGHT_PX)


def ttft(frame: pd.DataFrame) -> alt.Chart:
    """Time to first token by hour, median and 95th percentile; an hour without a job is a gap."""
    long = frame.rename(columns={"p50_s": "p50", "p95_s": "p95"}).melt(
        "hour", ["p50", "p95"], var_name="quantile", value_name="seconds"
    )
    colours = alt.Scale(domain=["p50", "p95"], range=[_P50, _P95])
    chart = alt.Chart(long).mark_line(point=True, strokeWidth=2, invalid="break-paths-filter-domains")
    return chart.encode(
        x=alt.X("hour:T", title=None, axis=_hour_axis()),
        y=alt.Y("seconds:Q", title="seconds", scale=alt.Scale(zero=True)),
        color=alt.Color("quantile:N", scale=colours, legend=_legend()),
        tooltip=[_hour_tip(), alt.Tooltip("quantile:N"), alt.Tooltip("seconds:Q", format=".3~f")],
    ).properties(height=HEIGHT_PX)


def spend(frame: pd.DataFrame) -> alt.Chart:
    """US dollars by hour, stacked by model."""
    models = list(dict.fromkeys(frame["model"]))
    colours = alt.Scale(domain=models, range=list(PALETTE[: max(1, len(models))]))
    chart = alt.Chart(frame).mark_bar()
    return chart.encode(
        x=_hour_bars(),
        y=alt.Y("sum(usd):Q", title="US dollars", axis=alt.Axis(format="$~g")),
        color=alt.Color("model:N", scale=colours, sort=models, legend=_legend(columns=2)),
        tooltip=[_hour_tip(), alt.Tooltip("model:N"), alt.Tooltip("usd:Q", format="$.6~f", title="US dollars")],
    ).properties(height=HEIGHT_PX)


def spend_by_group(frame: pd.DataFrame, title: str, top: int = 12) -> alt.Chart:
    """US dollars by group, what is in an answer and what was wasted apart; the `top` most expensive."""
    shown = frame.head(top)
    parts = pd.DataFrame({
        "group": shown["group"], "in an answer": (shown["spent_usd"] - shown["wasted_usd"]).clip(lower=0),
        "wasted": shown["wasted_usd"],
    }).melt("group", var_name="part", value_name="usd")  # fmt: skip
    colours = alt.Scale(domain=["in an answer", "wasted"], range=[PALETTE[0], OUTCOME_COLOURS[1]])
    chart = alt.Chart(parts).mark_bar()
    return chart.encode(
        x=alt.X("sum(usd):Q", title="US dollars", axis=alt.Axis(format="$~g", tickCount=5)),
        y=alt.Y("group:N", title=None, sort=list(shown["group"]), axis=alt.Axis(labelLimit=220)),
        color=alt.Color("part:N", scale=colours, legend=_legend()),
        order=alt.Order("part:N"),
        tooltip=[
            alt.Tooltip("group:N", title=title),
            "part:N",
            alt.Tooltip("usd:Q", format="$.6~f", title="US dollars"),
        ],
    ).properties(height=max(90, 34 * len(shown) + 60))


def _hour_bars() -> alt.X:
    return alt.X("hour:T", timeUnit="yearmonthdatehours", title=None, axis=_hour_axis())


def _hour_axis() -> alt.Axis:
    return alt.Axis(format="%H:%M", labelOverlap=True, grid=False, tickCount={"interval": "hour", "step": 3})


def _hour_tip() -> alt.Tooltip:
    return alt.Tooltip("hour:T", format="%a %d %b, %H:%M", title="hour from")


def _legend(columns: int = 4) -> alt.Legend:
    return alt.Legend(title=None, orient="bottom", columns=columns, labelLimit=260)
