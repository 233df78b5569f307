"""Latency: how long people wait, by model and band over time, where the time goes, and who is to blame."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Final

import pandas as pd
import streamlit as st

from onceq.wire import CostPoint
from onceq_dashboard import frames, latency, latency_charts, source
from onceq_dashboard.access import ApiAccess
from onceq_dashboard.format import count, duration, share, some
from onceq_dashboard.latency import Split
from onceq_dashboard.quantiles import mixed
from onceq_dashboard.views import parts, start
from onceq_dashboard.views.parts import Tile

PERIODS: Final = {"24 hours": 1, "7 days": 7}
QUANTILES: Final[dict[str, str]] = {"p50": "half of the jobs are faster", "p95": "19 of 20 jobs are faster"}
SPLITS: Final[dict[str, Split]] = {"Model": "model", "Band": "band"}
MEASURES: Final = {
    "ttft_p50_s": "ttft p50", "ttft_p95_s": "ttft p95", "total_p50_s": "Total p50", "total_p95_s": "Total p95",
}  # fmt: skip
COLUMNS: Final = {
    "jobs": st.column_config.NumberColumn("Jobs", format="localized"),
    **{name: st.column_config.NumberColumn(f"{label}, s", format="%.2f") for name, label in MEASURES.items()},
}
NO_PHASES: Final = (
    "No job of this time tells its phases: those that ended under an older onceq have none. Each job that ends from "
    "now on adds to this chart."
)
NO_VERDICTS: Final = "No job of this time was slow or failed for a reason that is known: nobody is to blame."


def show(access: ApiAccess) -> None:
    """The page; read when it is opened and at each click."""
    st.title("Latency", anchor=False)
    with st.grid(3, min_column_width=160, width=520):
        period = st.segmented_control(
            "Period", list(PERIODS), default="24 hours", required=True, key="latency_period", bind="query-params"
        )
        split = st.segmented_control(
            "By", list(SPLITS), default="Model", required=True, key="latency_by", bind="query-params"
        )
        quantile = st.segmented_control(
            "Quantile", list(QUANTILES), default="p95", required=True, key="latency_quantile", bind="query-params"
        )
    days = PERIODS[period]
    source.ahead(access, source.stats, partial(source.latency, days=days))
    with parts.show_errors():
        assumed, found = source.stats(access).simulated, source.latency(access, days)
    simulated = parts.pick_kind(
        real=any(not p.simulated for p in found), simulated=any(p.simulated for p in found), otherwise=assumed,
        key="latency_kind",
    )  # fmt: skip
    points = _picked(frames.of_kind(found, simulated=simulated))
    if simulated:
        st.caption(":material/science: How long the built-in simulator took: no provider was called.")
    if points:
        parts.tiles(_sums(points, period))
        _filled(points, split, quantile, days, period)
    elif found:
        st.info("No job fits these filters.", icon=":material/search_off:")
    else:
        with parts.show_errors():
            start.first_job(access, period)


def _picked(points: list[CostPoint]) -> list[CostPoint]:
    """The points of the chosen model and band."""
    with st.grid(2, min_column_width=148):
        model = st.selectbox(
            "Model",
            sorted({p.model for p in points}),
            None,
            key="latency_model",
            bind="query-params",
            placeholder="Any",
        )
        band = st.selectbox(
            "Band", sorted({p.band for p in points}), None, key="latency_band", bind="query-params", placeholder="Any"
        )
    return [p for p in points if model in (None, p.model) and band in (None, p.band)]


def _sums(points: list[CostPoint], period: str) -> list[Tile]:
    """How long it took in all; several groups of jobs together are estimated from the quantiles of each."""
    ttft, total = ([getattr(p.totals, name) for p in points] for name in ("ttft", "total"))
    blamed = sum(n for p in points for n in p.totals.verdicts.values())
    ended = sum(latency.ended(p.totals) for p in points)
    return [
        *(Tile(f"{name} {q}", duration(mixed(of, part)), f"{whence}: {QUANTILES[q]}. Last {period}.")
          for name, of, whence in (("ttft", ttft, "From the post to the first token"),
                                   ("Total", total, "From the post to the end"))
          for q, part in (("p50", 0.5), ("p95", 0.95))),
        Tile("Jobs", count(ended), f"Jobs that ended in the last {period}."),
        Tile("Slow or failed", share(blamed, ended), f"{some(blamed, 'job')} with somebody to blame, below."),
    ]  # fmt: skip


def _filled(points: list[CostPoint], title: str, quantile: str, days: int, period: str) -> None:
    at = datetime.now(UTC)
    hours = frames.hours(points, at, count=24 * days)
    with st.grid(2, min_column_width=400):
        frame = latency.quantiles_by_hour(points, hours, SPLITS[title])
        for column in (f"ttft_{quantile}_s", f"total_{quantile}_s"):
            label = MEASURES[column]
            _quantile(frame, column, label, title, days, period)
        _phases(points, hours, days, period)
        _verdicts(points, hours, days, period)
    st.subheader(f"By {title.lower()} :gray[· last {period}]", anchor=False)
    table = latency.by_group(points, SPLITS[title])
    parts.table(table, "latency_table", {"group": parts.names(title, table["group"]), **COLUMNS})
    st.caption(
        "Seconds from the post. Each hour and group is within 19 % of the truth; several together are estimated from "
        "their quantiles."
    )


def _quantile(frame: pd.DataFrame, column: str, label: str, title: str, days: int, period: str) -> None:
    most = latency_charts.MOST_LINES
    top = f"; the {most} {title.lower()}s with most jobs" if frame["group"].nunique() > most else ""
    with parts.card(label, f"seconds from the post, by hour and {title.lower()}, last {period}{top}"):
        drawn = latency_charts.quantile(frame, column, title, days)
        parts.chart(drawn, f"chart_{column}", f"{label} by hour and {title.lower()}, in seconds")
        parts.as_data(frame[["hour", "group", "jobs", column]], f"data_{column}")


def _phases(points: list[CostPoint], hours: list[datetime], days: int, period: str) -> None:
    frame = latency.phases_by_hour(points, hours)
    with parts.card("Where the time goes", f"seconds a job that ended, by hour, last {period}"):
        if frame.empty:
            st.caption(NO_PHASES)
            return
        parts.chart(latency_charts.phases(frame, days), "chart_phases", "Seconds a job by hour and phase")
        parts.as_data(frame, "data_phases")


def _verdicts(points: list[CostPoint], hours: list[datetime], days: int, period: str) -> None:
    frame = latency.verdicts_by_hour(points, hours)
    with parts.card("Who is to blame", f"jobs that were slow or failed, by hour, last {period}"):
        if frame.empty:
            st.caption(NO_VERDICTS)
            return
        parts.chart(latency_charts.verdicts(frame, days), "chart_verdicts", "Jobs by hour and verdict")
        parts.as_data(frame, "data_verdicts")
