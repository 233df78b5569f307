"""Cost: a day, a week or a month by model, team and more: what was spent, wasted, avoided, and on how many jobs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import pandas as pd
import streamlit as st

from onceq.wire import CostPoint, Totals
from onceq_dashboard import charts, export, frames, source
from onceq_dashboard.format import DASH, count, factor, some, usd
from onceq_dashboard.frames import GroupBy
from onceq_dashboard.source import Door
from onceq_dashboard.views import parts, start
from onceq_dashboard.views.parts import Tile

PERIODS: Final = {"24 hours": 1, "7 days": 7, "30 days": 30}
GROUPS: Final[dict[str, GroupBy]] = {
    "Model": "model", "Team": "team", "Provider": "provider", "Band": "band", "API key": "key", "Labels": "labels",
}  # fmt: skip
MONEY: Final = {
    "spent_usd": "Spent, $", "wasted_usd": "Wasted, $", "avoided_usd": "Avoided, $", "per_job_usd": "Per job, $",
}  # fmt: skip
COUNTS: Final = {
    "jobs": "Jobs",
    "succeeded": "Succeeded",
    "failed": "Failed",
    "calls": "Calls",
    "input_tokens": "Tokens in",
    "output_tokens": "Tokens out",
    "unpriced_calls": "Unpriced calls",
}


def show(door: Door) -> None:
    """The page; read when it is opened and at each click."""
    st.title("Cost", anchor=False)
    period = st.segmented_control("Period", list(PERIODS), default="24 hours", required=True, key="cost_period")
    with parts.told():
        found = source.costs(door, PERIODS[period])
        assumed = source.stats(door).simulated
    simulated = parts.pick_kind(
        real=any(not p.simulated for p in found), simulated=any(p.simulated for p in found), otherwise=assumed,
        key="cost_kind",
    )  # fmt: skip
    points = frames.of_kind(found, simulated=simulated)
    if points:
        _filled(points, period, simulated=simulated)
    else:
        with parts.told():
            start.first_job(door, period)


def _filled(points: list[CostPoint], period: str, *, simulated: bool) -> None:
    st.subheader(_heading(period, simulated=simulated), anchor=False)
    if simulated:
        parts.simulated_note()
    parts.tiles(_sums(frames.added(points), simulated=simulated))
    picked = st.segmented_control("By", list(GROUPS), default="Model", required=True, key="cost_by")
    _grouped(points, picked, period, simulated=simulated)
    _download(points, period, simulated=simulated)


def _heading(period: str, *, simulated: bool) -> str:
    days = " :gray[· whole days in UTC, today included]" if PERIODS[period] > 1 else ""
    return f"Last {period}{', simulated' if simulated else ''}{days}"


def _sums(totals: Totals, *, simulated: bool) -> list[Tile]:
    mark = parts.money_mark(simulated=simulated)
    per_job = usd(totals.spent_nano_usd // totals.jobs) if totals.jobs else DASH
    return [
        Tile("Spent", usd(totals.spent_nano_usd), "What the providers' calls cost, wasted ones included.", mark),
        Tile("Cost per job", per_job, "Spent ÷ jobs.", mark),
        Tile(
            "Wasted", usd(totals.wasted_nano_usd), "Part of what was spent: calls whose output is in no answer.", mark
        ),
        Tile("Avoided", usd(totals.avoided_nano_usd), "What posts that made no new job would have cost.", mark),
        Tile("Jobs", count(totals.jobs), "Unique jobs that were accepted."),
        Tile("Bill amplification", factor(totals.bill_amplification), "Calls that may be billed ÷ unique jobs."),
    ]


def _grouped(points: list[CostPoint], title: str, period: str, *, simulated: bool) -> None:
    frame, by = frames.costs(points, GROUPS[title]), title if title == "API key" else title.lower()
    top = f", the {charts.TOP_GROUPS} most expensive" if len(frame) > charts.TOP_GROUPS else ""
    with parts.card(f"Spent by {by}", f"US dollars, last {period}{top}{', simulated' if simulated else ''}"):
        parts.chart(charts.spend_by_group(frame, title), "chart_groups", f"US dollars by {by}")
    _table(frame, title, simulated=simulated)
    unpriced = int(frame["unpriced_calls"].sum())
    if unpriced:
        st.caption(f"{some(unpriced, 'call')} of unknown price: in no sum of money here.")


def _table(frame: pd.DataFrame, title: str, *, simulated: bool) -> None:
    mark = " simulated" if simulated else ""
    columns = {"group": st.column_config.TextColumn(title, pinned=True)}
    columns |= {name: st.column_config.NumberColumn(label + mark, format="%.6f") for name, label in MONEY.items()}
    columns |= {name: st.column_config.NumberColumn(label, format="localized") for name, label in COUNTS.items()}
    parts.table(frame[list(columns)], "cost_table", columns)


def _download(points: list[CostPoint], period: str, *, simulated: bool) -> None:
    name = f"onceq-cost-{period.replace(' ', '-')}{'-simulated' if simulated else ''}"
    step = "hour" if PERIODS[period] == 1 else "day"
    st.download_button(
        "Download CSV",
        export.csv_bytes(frames.cost_rows(points), frames.COST_COLUMNS),
        f"{name}-{datetime.now(UTC):%Y-%m-%dT%H%M}Z.csv",
        "text/csv",
        icon=":material/download:",
        on_click="ignore",
        help=f"One row {'an' if step == 'hour' else 'a'} {step} and group; US dollars to the nano-dollar.",
    )
