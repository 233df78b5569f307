"""Jobs: a table, newest first, with filters and pages; `?job=<id>` opens one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from time import monotonic
from typing import Final, cast, get_args

import streamlit as st

from onceq import Job, Stats
from onceq.wire import Status
from onceq_dashboard import frames, source
from onceq_dashboard.door import Door, SourceError
from onceq_dashboard.format import some
from onceq_dashboard.paging import Walk
from onceq_dashboard.source import Filters
from onceq_dashboard.views import job, parts, start

SIZE: Final = 25
REFRESH_S: Final = 5
SETTLE_S: Final = 0.5
"""A click this soon after the rows have moved may have meant another row."""
_PAGE, _WALK, _ROWS, _MOVED = "jobs_page", "jobs_walk", "jobs_rows", "jobs_moved"
_TABLE, _STATUS, _MODEL, _TEAM, _SEARCH = "jobs_table", "jobs_status", "jobs_model", "jobs_team", "jobs_search"

COLUMNS: Final = {
    "status": st.column_config.TextColumn("Status", width=105),
    "age": st.column_config.TextColumn("Age", width=85),
    "model": st.column_config.TextColumn("Model", width=195),
    "team": st.column_config.TextColumn("Team", width=80),
    "ttft_s": st.column_config.NumberColumn("ttft, s", format="%.2f", width=65, help="Post to first token"),
    "total_s": st.column_config.NumberColumn("Total, s", format="%.2f", width=72, help="Post to end"),
    "cost_usd": st.column_config.NumberColumn("Cost, $", format="%.6f", width=85, help="US dollars, all calls"),
    "kind": st.column_config.TextColumn("Money", width=82, help="Nobody was billed for a simulated call"),
    "input_tokens": st.column_config.NumberColumn("Tokens in", format="localized", width=78),
    "output_tokens": st.column_config.NumberColumn("Tokens out", format="localized", width=82),
    "calls": st.column_config.TextColumn(
        "Calls/tries", width=82, help="Requests that may be billed / all, refused ones included"
    ),
    "band": st.column_config.TextColumn("Band", width=80),
    "job": st.column_config.TextColumn("Job", width=108, help="The beginning of its id"),
}


def show(door: Door) -> None:
    """The table, or the job that the address names."""
    opened = st.query_params.get("job")
    if opened:
        job.show(door, opened)
        return
    st.title("Jobs", anchor=False)
    with parts.told():
        stats = source.stats(door)
    _filters(stats)
    first = st.session_state.get(_PAGE, 0) == 0
    st.fragment(_table, run_every=REFRESH_S if first else None)(door, _chosen(), live=first)


def _filters(stats: Stats) -> None:
    models = sorted({p.model for p in stats.hours})
    teams = sorted({p.team for p in stats.hours} - {""})
    with st.grid(4, min_column_width=148, vertical_alignment="bottom"):
        st.selectbox("Status", list(get_args(Status)), None, key=_STATUS, placeholder="Any", on_change=_to_first)
        st.selectbox("Model", models, None, key=_MODEL, placeholder="Any", on_change=_to_first, accept_new_options=True)
        st.selectbox("Team", teams, None, key=_TEAM, placeholder="Any", on_change=_to_first, accept_new_options=True)
        st.text_input("Open a job", key=_SEARCH, placeholder="job_…", on_change=_open_typed)


def _chosen() -> Filters:
    state = st.session_state
    return Filters(cast("Status | None", state.get(_STATUS)), state.get(_MODEL) or None, state.get(_TEAM) or None)


def _table(door: Door, filters: Filters, *, live: bool) -> None:
    number = st.session_state.get(_PAGE, 0)
    if st.query_params.get("job") or live != (number == 0):
        st.rerun()  # a click in here runs this part alone: the whole page is another one now
    with parts.told():
        rows, has_next = _first(door, filters) if number == 0 else _later(number)
    if not rows:
        _nothing(door, filters)
        return
    if any(j.simulated for j in rows):
        st.caption(":material/science: Simulated jobs come from the built-in simulator: nobody was billed.")
    _remember(rows)
    parts.clickable(frames.job_table(rows, datetime.now(UTC)), _TABLE, COLUMNS, _open_selected)
    _pager(door, filters, number, has_next=has_next, rows=len(rows))


def _first(door: Door, filters: Filters) -> tuple[list[Job], bool]:
    found = source.newest(door, filters, SIZE + 1)
    return found[:SIZE], len(found) > SIZE


def _later(number: int) -> tuple[list[Job], bool]:
    walk: Walk = st.session_state[_WALK]
    try:
        rows = walk.page(number)
    except SourceError:
        _to_first()  # an iterator that raised is at its end: begin a new walk
        raise
    return rows, walk.has_page(number + 1)


def _nothing(door: Door, filters: Filters) -> None:
    if any(filters):
        st.info("No job fits these filters.", icon=":material/search_off:")
    else:
        with parts.told():
            start.first_job(door)


def _pager(door: Door, filters: Filters, number: int, *, has_next: bool, rows: int) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Newer",
            icon=":material/arrow_back:",
            disabled=number == 0,
            on_click=_turn,
            args=(door, filters, number - 1),
        )
        st.button(
            "Older", icon=":material/arrow_forward:", icon_position="right", disabled=not has_next, on_click=_turn,
            args=(door, filters, number + 1),
        )  # fmt: skip
        live = f"live, every {REFRESH_S} s" if number == 0 else "as it was when you turned to it"
        st.caption(f"Page {number + 1} · {some(rows, 'job')} · {live}. Click a row to open its job.")


def _turn(door: Door, filters: Filters, number: int) -> None:
    if st.session_state.get(_PAGE, 0) == 0:
        st.session_state[_WALK] = Walk(source.walk(door, filters, SIZE + 1), SIZE)
    st.session_state[_PAGE] = number


def _to_first() -> None:
    st.session_state[_PAGE] = 0


def _remember(rows: Sequence[Job]) -> None:
    """Keep which job each row shows, and when that last changed: a selection is only a row's number."""
    ids = [j.id for j in rows]
    if st.session_state.get(_ROWS) != ids:
        st.session_state[_ROWS], st.session_state[_MOVED] = ids, monotonic()


def _open_selected() -> None:
    selected: list[tuple[int, str]] = st.session_state[_TABLE]["selection"]["cells"]
    moved_just_now = monotonic() - st.session_state[_MOVED] < SETTLE_S
    if selected and not moved_just_now:
        row, _ = selected[0]
        st.query_params["job"] = st.session_state[_ROWS][row]


def _open_typed() -> None:
    typed = str(st.session_state[_SEARCH]).strip()
    if typed:
        st.query_params["job"] = typed
