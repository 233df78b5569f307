"""Cost: the last 24 hours by model, team or band: what was spent, what was wasted, and on how many jobs."""

from __future__ import annotations

from typing import Final

import pandas as pd
import streamlit as st

from onceq import Stats
from onceq.wire import CostPoint, Totals
from onceq_dashboard import charts, export, frames, source
from onceq_dashboard.format import count, factor, some, usd
from onceq_dashboard.frames import GroupBy
from onceq_dashboard.source import Door
from onceq_dashboard.views import parts, start
from onceq_dashboard.views.parts import Tile

GROUPS: Final[dict[str, GroupBy]] = {"Model": "model", "Team": "team", "Band": "band"}


MONEY: Final = {"spent_usd": "Spent, $", "wasted_usd": "Wasted, $", "per_job_usd": "Per job, $"}
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
    st.title("Cost")
    with parts.told():
        stats = source.stats(door)
    simulated = parts.simulated_chosen(stats, "cost_kind")
    if simulated:
        parts.simulated_note()
    points = frames.of_kind(stats.hours, simulated=simulated)
    if not points:
        with parts.told():
            start.first_job(door)
        return
    st.subheader("Last 24 hours, simulated" if simulated else "Last 24 hours", anchor=False)
    parts.tiles(_sums(stats.last_24h_simulated if simulated else stats.last_24h))
    picked = st.segmented_control("By", list(GROUPS), default="Model", required=True, key="cost_by")
    _grouped(points, picked)
    _download(points, stats, simulated=simulated)


def _sums(totals: Totals) -> list[Tile]:
    per_job = usd(totals.spent_nano_usd // totals.jobs) if totals.jobs else "—"
    return [
        Tile("Spent", usd(totals.spent_nano_usd), "What the providers' calls cost, wasted ones included."),
        Tile("Wasted", usd(totals.wasted_nano_usd), "Part of what was spent: calls whose output is in no answer."),
        Tile("Cost per job", per_job, "Spent ÷ jobs."),
        Tile("Jobs", count(totals.jobs), "Unique jobs that were accepted."),
        Tile("Calls", count(totals.calls), "Requests to providers that may be billed."),
        Tile("Bill amplification", factor(totals.bill_amplification), "Calls that may be billed ÷ unique jobs."),
    ]


def _grouped(points: list[CostPoint], title: str) -> None:
    frame = frames.costs(points, GROUPS[title])
    with st.container(border=True):
        st.markdown(f"**Spent by {title.lower()}**, US dollars")
        st.altair_chart(charts.spend_by_group(frame, title), key="chart_groups", alt=f"US dollars by {title.lower()}")
    _table(frame, title)
    unpriced = int(frame["unpriced_calls"].sum())
    if unpriced:
        st.caption(f"{some(unpriced, 'call')} of unknown price: in no sum of money here.")


def _table(frame: pd.DataFrame, title: str) -> None:
    columns = {"group": st.column_config.TextColumn(title, pinned=True)}
    columns |= {name: st.column_config.NumberColumn(label, format="%.6f") for name, label in MONEY.items()}
    columns |= {name: st.column_config.NumberColumn(label, format="localized") for name, label in COUNTS.items()}
    parts.table(frame[list(columns)], "cost_table", columns)


def _download(points: list[CostPoint], stats: Stats, *, simulated: bool) -> None:
    kind = "-simulated" if simulated else ""
    st.download_button(
        "Download CSV",
        export.csv_bytes(frames.cost_rows(points), frames.COST_COLUMNS),
        f"onceq-cost{kind}-{stats.at:%Y-%m-%dT%H%M}Z.csv",
        "text/csv",
        on_click="ignore",
        help="One row an hour, team, model and band; US dollars to the nano-dollar.",
    )
