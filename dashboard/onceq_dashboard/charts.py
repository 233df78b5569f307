"""Frames as charts. Pure; the frames' columns are told in `frames.py`.

Colours are told apart on light and dark ground and by colour-blind eyes (tests/dashboard/test_colours.py). Time axes
are in the reader's own zone (Vega's default), with a fixed number of hours, so that nothing jumps.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

import altair as alt
import pandas as pd

from onceq_dashboard.causes import BLAMES
from onceq_dashboard.frames import OUTCOMES

HEIGHT_PX: Final = 270
OUTCOME_COLOURS: Final = ("#1c9c74", "#e25812", "#7f8896", "#8d43b1")
"""succeeded, failed, cancelled, expired."""
PALETTE: Final = ("#4c7ef3", "#e25812", "#2a6f58", "#8d43b1", "#9b6b3b", "#5f42f0", "#7f8896")
P50, P95 = PALETTE[0], PALETTE[1]
QUANTILES: Final = ("p50", "p95")
BLAME_COLOURS: Final = ("#e25812", "#9b6b3b", "#8d43b1", "#4c7ef3", "#5f42f0", "#2a6f58", "#7f8896")
TOP_GROUPS: Final = 12
_PROVIDER: Final = re.compile(r"[\w-]+/")
_LABEL_PX, _LETTER_PX, _SYMBOL_PX = 150, 6.3, 26
"""How wide a legend's words may be, a letter of them is, and what stands beside them."""
_LETTERS, _NAME_LETTERS = 21, 30
"""How many letters of a name there is room for in a legend and beside a bar."""
_AXIS_PX, _NAME_PX = 60, 190
"""How much of a chart's width its numbers on the left take, and its rows' names at most."""
_PLACE: Final = "containerSize()[0] + 0 * width"
"""How wide a chart's place is, looked at again whenever the chart's own width changes."""
PADDING: Final = {"left": 2, "right": 8, "top": 0, "bottom": 0}


def outcomes(frame: pd.DataFrame) -> alt.Chart:
    """Jobs that ended, by hour, stacked by outcome."""
    chart = alt.Chart(frame).mark_bar()
    return chart.encode(
        x=_hour_bars(),
        y=alt.Y("sum(jobs):Q", title=None, axis=count_axis()),
        color=alt.Color(
            "outcome:N", title="", scale=scale(OUTCOMES, OUTCOME_COLOURS), sort=list(OUTCOMES), legend=legend(OUTCOMES)
        ),
        tooltip=[hour_tip(), alt.Tooltip("outcome:N"), alt.Tooltip("jobs:Q", format=",d")],
    ).properties(height=HEIGHT_PX, padding=PADDING)


def ttft(frame: pd.DataFrame) -> alt.Chart:
    """Time to first token by hour, median and 95th percentile; an hour without a job is a gap."""
    long = frame.rename(columns={"p50_s": "p50", "p95_s": "p95"}).melt(
        "hour", list(QUANTILES), var_name="quantile", value_name="seconds"
    )
    chart = alt.Chart(long).mark_line(
        point=alt.OverlayMarkDef(filled=True, size=36), strokeWidth=2, invalid="break-paths-filter-domains"
    )
    return chart.encode(
        x=alt.X("hour:T", title=None, axis=hour_axis()),
        y=alt.Y("seconds:Q", title=None, scale=alt.Scale(zero=True), axis=alt.Axis(tickCount=5, labelFlush=False)),
        color=alt.Color("quantile:N", title="", scale=scale(QUANTILES, (P50, P95)), legend=legend(QUANTILES)),
        tooltip=[hour_tip(), alt.Tooltip("quantile:N"), alt.Tooltip("seconds:Q", format=".3~f")],
    ).properties(height=HEIGHT_PX, padding=PADDING)


def causes(frame: pd.DataFrame, top: int = 7) -> alt.Chart:
    """Jobs that ended without an answer, by error code, the most frequent first; the colour tells whom to ask."""
    shown = frame.head(top)
    chart = alt.Chart(shown).mark_bar(height=bar_px(len(shown)))
    return chart.encode(
        x=alt.X("jobs:Q", title=None, axis=count_axis()),
        y=alt.Y("code:N", title=None, sort=list(shown["code"]), axis=name_axis(), scale=row_scale()),
        color=blame_colour(shown),
        tooltip=[alt.Tooltip("code:N", title="error"), alt.Tooltip("blame:N"), alt.Tooltip("jobs:Q", format=",d")],
    ).properties(height=HEIGHT_PX, padding=PADDING)


def scale(names: list[str] | tuple[str, ...], colours: tuple[str, ...]) -> alt.Scale:
    """Names in these colours, in order."""
    return alt.Scale(domain=list(names), range=list(colours[: max(1, len(names))]))


def blame_colour(shown: pd.DataFrame) -> alt.Color:
    """Of bars by `code`: each `blame` that is there in the colour that it always has."""
    there = {b: c for b, c in zip(BLAMES, BLAME_COLOURS, strict=True) if b in set(shown["blame"])}
    colours = alt.Scale(domain=list(there), range=list(there.values()))
    return alt.Color("blame:N", title="", scale=colours, legend=names_legend(list(there), shown["code"]))


def bar_px(rows: int) -> int:
    """How thick a lying bar is: one of few must not look like a wall."""
    return min(26, 130 // max(1, rows))


def row_scale() -> alt.Scale:
    """Rows of bars with space between them."""
    return alt.Scale(paddingInner=0.35, paddingOuter=0.2)


def count_axis() -> alt.Axis:
    """Whole numbers."""
    return alt.Axis(tickMinStep=1, format="~s", tickCount=5, labelFlush=False)


def name_axis() -> alt.Axis:
    """Names of rows, none left out; of a long one its middle is."""
    return alt.Axis(
        labelLimit=_NAME_PX, labelExpr=_shortened("datum.label", _NAME_LETTERS), labelOverlap=False, ticks=False,
        domain=False,
    )  # fmt: skip


def _hour_bars() -> alt.X:
    return alt.X("hour:T", timeUnit="yearmonthdatehours", title=None, axis=hour_axis())


def hour_axis(days: int = 1) -> alt.Axis:
    """Hours of a day, or the days of a longer time."""
    return alt.Axis(format="%H:%M" if days == 1 else "%a %d", labelOverlap=True, grid=False, tickCount=8)


def hour_tip() -> alt.Tooltip:
    """Which hour a mark stands for."""
    return alt.Tooltip("hour:T", format="%a %d %b, %H:%M", title="hour from")


def group_legend(groups: Sequence[str]) -> alt.Legend:
    """Without the providers' names where the models' own are enough to tell them apart; as many a row as fit."""
    own = {group.partition("/")[2] or group for group in groups}
    plain = all(_PROVIDER.match(group) or "/" not in group for group in groups)
    bare = plain and len(own) == len(groups)
    label = "slice(datum.label, indexof(datum.label, '/') + 1)" if bare else "datum.label"
    shown = [group.partition("/")[2] or group for group in groups] if bare else groups
    return legend(shown, label=_shortened(label, _LETTERS) if max(map(len, shown), default=0) > _LETTERS else label)


def _shortened(label: str, letters: int) -> str:
    """The expression of a label without the middle of what is long: names often differ at their ends alone."""
    ends = f"slice({label}, 0, {letters // 2}) + '…' + slice({label}, -{(letters - 1) // 2})"
    return f"length({label}) > {letters} ? {ends} : {label}"


def words_legend(names: Sequence[str], beside_px: int = _AXIS_PX) -> alt.Legend:
    """Names of the wire as words; as many a row as fit."""
    return legend(names, beside_px, "replace(datum.label, '_', ' ')")


def names_legend(names: Sequence[str], rows: Iterable[str]) -> alt.Legend:
    """Of lying bars, whose own names stand beside the plot and leave it a phone's half."""
    longest = max((len(row) for row in rows), default=0)
    return legend(names, round(min(_NAME_PX, _LETTER_PX * longest)) + _SYMBOL_PX)


def legend(names: Sequence[str], beside_px: int = _AXIS_PX, label: str = "datum.label") -> alt.Legend:
    """Above the plot, which has `beside_px` of the chart's width on its left."""
    return alt.Legend(
        orient="top", columns=_fitting(names, beside_px), labelLimit=_LABEL_PX, labelExpr=label, offset=8, padding=0,
        symbolSize=60, symbolStrokeWidth=2, rowPadding=1,
    )  # fmt: skip


def _fitting(names: Sequence[str], beside_px: int) -> alt.ExprRef:
    """How many columns there is room for, each as wide as its longest name: what has no room would be cut off.

    The room is that of the chart's place on the page. By the plot's own width, which Vega works out from the legend's
    height, the legend would have more rows afterwards than there was left room for, and the first would be cut off.
    """
    words = "1"
    for columns in range(2, len(names) + 1):
        words = f"{_PLACE} >= {beside_px + _legend_px(names, columns)} ? {columns} : {words}"
    return alt.ExprRef(words)


def _legend_px(names: Sequence[str], columns: int) -> int:
    longest = [max(len(name) for name in names[at::columns]) for at in range(columns)]
    return round(sum(min(_LABEL_PX, _LETTER_PX * letters) + _SYMBOL_PX for letters in longest))
