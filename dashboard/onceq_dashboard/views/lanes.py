"""Workers and lanes now: who runs jobs, what holds a model back, and the switch for those who may."""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal

import pandas as pd
import streamlit as st

from onceq import Stats
from onceq.wire import BANDS, Band, Lanes
from onceq_dashboard import actions, frames, source
from onceq_dashboard.access import ApiAccess, SourceError
from onceq_dashboard.format import code_span, literal, some
from onceq_dashboard.views import parts

LANE_COLUMNS: Final = {
    "lane": st.column_config.TextColumn("Model"),
    "state": st.column_config.TextColumn("State"),
    "why": st.column_config.TextColumn("Because of"),
    "running": st.column_config.NumberColumn("Running", help="Over all tenants; only an operator's key sees it"),
    "limits": st.column_config.TextColumn("Limits", help="Requests, tokens in and tokens out a minute; jobs at once"),
}
WORKER_COLUMNS: Final = {
    "id": st.column_config.TextColumn("Worker"),
    "host": st.column_config.TextColumn("Host"),
    "pid": st.column_config.NumberColumn("Process", format="%d"),
    "running": st.column_config.NumberColumn("Running"),
    "capacity": st.column_config.NumberColumn("Slots"),
    "providers": st.column_config.TextColumn("Serves"),
    "seen": st.column_config.TextColumn("Seen"),
}
_ROWS: Final = 12
"""Of a table that are shown at once; the others are scrolled to."""
_LANE, _BAND = "lanes_lane", "lanes_band"


def show(access: ApiAccess, stats: Stats, held: Lanes) -> None:
    """Both, side by side."""
    if not (held.lanes or stats.fleet.processes):
        return
    with st.grid(2, min_column_width=400):
        with parts.card("Models", f"{some(len(held.lanes), 'model')} called lately; what holds them back"):
            _lanes(access, stats, held)
        with parts.card("Workers", some(stats.fleet.processes, "live process", "live processes")):
            _workers(stats)


def _lanes(access: ApiAccess, stats: Stats, held: Lanes) -> None:
    if held.paused_bands:
        st.warning(f"Paused bands: {', '.join(held.paused_bands)}.", icon=":material/pause_circle:")
    if held.lanes:
        frame = frames.lane_table(held, stats.at)
        _table(frame if any(frame["why"]) else frame.drop(columns="why"), "lanes", LANE_COLUMNS)
    else:
        st.caption("No model was called yet.")
    _switch(access, held, stats.at)


def _workers(stats: Stats) -> None:
    if stats.workers:
        _table(frames.worker_table(stats.workers, stats.at), "workers", WORKER_COLUMNS)
    elif stats.fleet.processes:
        serves = ", ".join(code_span(name) for name in stats.fleet.providers)
        st.caption(f"They serve {serves or 'nothing'}. Which they are only an operator sees.")
    else:
        st.caption("None: start one with `onceq worker`. Jobs are accepted and safe, but nothing runs.")


def _table(frame: pd.DataFrame, key: str, columns: parts.Columns) -> None:
    """As high as its rows, up to a bound: many lanes must not push the rest of the page away."""
    parts.table(frame, key, columns, height=parts.at_most(parts.rows_px(_ROWS), frame))


def _switch(access: ApiAccess, held: Lanes, now: datetime) -> None:
    try:
        may = "operator" in source.scopes(access)
    except SourceError:
        return
    if not may:
        st.caption(":material/lock: Pausing and resuming needs a key with the scope `operator`.")
        return
    with st.popover("Pause or resume …", icon=":material/pause_circle:"):
        st.write("Nothing new starts in what is paused, for all tenants; what runs goes on.")
        names = [one.lane for one in frames.held_first(held, now)]
        lane = st.selectbox("Model", names, None, key=_LANE, placeholder="None")
        band = st.selectbox("Band", list(BANDS), None, key=_BAND, placeholder="None")
        with st.container(horizontal=True):
            st.button("Pause", on_click=_do, args=(access, "pause"), disabled=not (lane or band), key="lanes_pause")
            st.button("Resume", on_click=_do, args=(access, "resume"), disabled=not (lane or band), key="lanes_resume")


def _do(access: ApiAccess, word: Literal["pause", "resume"]) -> None:
    lane: str | None = st.session_state.get(_LANE)
    band: Band | None = st.session_state.get(_BAND)
    try:
        for switched in ({"lane": lane}, {"band": band}):
            if any(switched.values()):
                actions.switch(access, word, **switched)  # pyright: ignore[reportArgumentType] - one of the two is given
    except SourceError as exc:
        st.toast(exc.trouble.sentence, icon=":material/warning:")
    else:
        named = " and ".join(name for name in (lane, band and f"the band {band}") if name)
        st.toast(f"{'Paused' if word == 'pause' else 'Resumed'}: {literal(named)}.", icon=":material/check:")
