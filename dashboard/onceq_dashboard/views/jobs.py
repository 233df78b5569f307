"""Jobs: a table, newest first, with filters and pages; `?job=<id>` opens one.

The filters are in the address too: `?status=failed&search=step=summary`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from time import monotonic
from typing import Final

import streamlit as st

from onceq import Job, Stats
from onceq.wire import JobPage
from onceq_dashboard import frames, job_filters, source
from onceq_dashboard.access import ApiAccess, SourceError
from onceq_dashboard.format import some
from onceq_dashboard.job_filters import CHOICES, Filters
from onceq_dashboard.paging import Pager
from onceq_dashboard.views import job, parts, start

SIZE: Final = 25
REFRESH_S: Final = 5
SETTLE_S: Final = 0.5
"""A click this soon after the rows have moved may have meant another row."""
TURN_PX: Final = 160
"""Of the buttons that turn pages: what is right of them would move as they are drawn, and with their words."""
_PAGE, _WALK, _ROWS, _MOVED = "jobs_page", "jobs_walk", "jobs_rows", "jobs_moved"
_TABLE, _OLDER = "jobs_table", "jobs_older"
HIDDEN: Final = ("when", "band", "verdict", "key")
"""Filters that are asked for less often: they are behind a button."""

COLUMNS: Final = {
    "status": st.column_config.TextColumn("Status", width=105),
    "age": st.column_config.TextColumn("Age", width=85),
    "model": st.column_config.TextColumn("Model", width=215),
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
}


def show(access: ApiAccess) -> None:
    """The table, or the job that the address names."""
    opened = st.query_params.get("job")
    if opened:
        job.show(access, opened)
        return
    st.title("Jobs", anchor=False)
    with parts.show_errors():
        stats, names = source.stats(access), source.key_names(access)
    _from_address()
    _fields(stats, names)
    first = st.session_state.get(_PAGE, 0) == 0
    st.fragment(_table, run_every=REFRESH_S if first else None)(access, job_filters.filters(_words()), live=first)


def _fields(stats: Stats, key_names: Mapping[str, str]) -> None:
    points = stats.hours
    with st.grid(5, min_column_width=148, vertical_alignment="bottom"):
        st.text_input(
            "Find", key=_field("search"), placeholder="job_…, user, label=value", on_change=_searched,
            help="The id of a job opens it. Any other word is a user; `name=value` is a label.",
        )  # fmt: skip
        _choice("Status", "status", CHOICES["status"])
        _choice("Model", "model", sorted({p.model for p in points}), others=True)
        _choice("Team", "team", sorted({p.team for p in points} - {""}), others=True)
        hidden = sum(bool(_words()[name]) for name in HIDDEN)
        with st.popover(f"More filters ({hidden})" if hidden else "More filters", icon=":material/tune:"):
            _choice("Made", "when", CHOICES["when"])
            _choice("Band", "band", CHOICES["band"])
            _choice("Verdict", "verdict", CHOICES["verdict"])
            used = {p.key for p in points} - {""}
            _choice("API key", "key", sorted(used, key=lambda one: key_names.get(one, one)), key_names, others=True)


def _choice(
    label: str, name: str, options: Sequence[str], words: Mapping[str, str] | None = None, *, others: bool = False
) -> None:
    """`words`: what an option is called, where it is called otherwise."""

    def called(word: str) -> str:
        return (words or {}).get(word, word.replace("_", " ") if name == "verdict" else word)

    st.selectbox(
        label, options, None, key=_field(name), placeholder="Any", on_change=_chosen, accept_new_options=others,
        format_func=called, args=(name, {option: called(option) for option in options}),
    )  # fmt: skip


def _field(name: str) -> str:
    return f"jobs_{name}"


def _words() -> dict[str, str | None]:
    return {name: st.session_state.get(_field(name)) for name in Filters._fields}


def _from_address() -> None:
    """What the address says is what the fields begin with; what they say later is kept in the address."""
    for name, word in job_filters.given(st.query_params.to_dict()).items():
        if _field(name) not in st.session_state:
            st.session_state[_field(name)] = word


def _chosen(name: str, options: Mapping[str, str]) -> None:
    parts.complete(_field(name), options)
    _changed()


def _changed() -> None:
    words = job_filters.given(_words())
    for name in Filters._fields:
        if name in words:
            st.query_params[name] = words[name]
        else:
            st.query_params.pop(name, None)
    _to_first()


def _searched() -> None:
    typed = str(st.session_state[_field("search")]).strip()
    if job_filters.is_job_id(typed):
        st.session_state[_field("search")] = ""
        st.query_params["job"] = typed
    else:
        _changed()


def _table(access: ApiAccess, filters: Filters, *, live: bool) -> None:
    number = st.session_state.get(_PAGE, 0)
    if st.query_params.get("job") or live != (number == 0):
        st.rerun()  # a click in here runs this part alone: the whole page is another one now
    with parts.show_errors():
        page = source.newest(access, filters, SIZE) if number == 0 else _later(number)
    if page.jobs:
        _shown(page.jobs)
    else:
        _nothing(access, filters, number, page)
    if page.jobs or page.next_cursor or number:
        _pager(access, filters, number, page)


def _shown(rows: Sequence[Job]) -> None:
    if any(j.simulated for j in rows):
        st.caption(":material/science: Simulated jobs come from the built-in simulator: nobody was billed.")
    _remember(rows)
    key = f"{_TABLE}_{st.session_state.get(_PAGE, 0)}"  # each page's own: in one that was refilled no arrow key works
    parts.jobs_table(frames.job_table(rows, datetime.now(UTC)), key, COLUMNS, _open)


def _later(number: int) -> JobPage:
    pager: Pager = st.session_state[_WALK]
    try:
        return pager.page(number)
    except SourceError:
        _to_first()  # where the page that was asked for can't be had, the first is at hand
        raise


def _nothing(access: ApiAccess, filters: Filters, number: int, page: JobPage) -> None:
    if page.next_cursor:
        back = f"back to {_local(page.looked_back_to)}" if page.looked_back_to else "for a while"
        st.info(f"Looked {back}: nothing on this page fits. Older jobs may: go on looking.", icon=":material/search:")
    elif number:
        st.info("No older job fits: this is the end.", icon=":material/search_off:")
    elif any(filters):
        st.info("No job fits these filters.", icon=":material/search_off:")
    else:
        with parts.show_errors():
            start.first_job(access)


def _local(at: datetime) -> str:
    return f"{at.astimezone(parts.zone() or UTC):%Y-%m-%d %H:%M}"


def _pager(access: ApiAccess, filters: Filters, number: int, page: JobPage) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Newer",
            icon=":material/arrow_back:",
            width=TURN_PX,
            disabled=number == 0,
            on_click=_turn,
            args=(access, filters, number - 1, page),
        )
        st.button(
            "Older" if page.jobs else "Go on looking",
            icon=":material/arrow_forward:",
            icon_position="right",
            width=TURN_PX,
            disabled=page.next_cursor is None,
            on_click=_turn,
            args=(access, filters, number + 1, page),
            key=_OLDER,
        )
        live = f"live, every {REFRESH_S} s" if number == 0 else "as it was when you turned to it"
        click = f" {parts.HOW_TO_OPEN}" if page.jobs else ""
        st.caption(f"Page {number + 1} · {some(len(page.jobs), 'job')} · {live}.{click}")


def _turn(access: ApiAccess, filters: Filters, number: int, page: JobPage) -> None:
    if st.session_state.get(_PAGE, 0) == 0:
        st.session_state[_WALK] = Pager(page, lambda cursor: source.older(access, filters, SIZE, cursor))
    st.session_state[_PAGE] = number


def _to_first() -> None:
    st.session_state[_PAGE] = 0


def _remember(rows: Sequence[Job]) -> None:
    """Keep which job each row shows, and when that last changed: a click tells only a row's number."""
    ids = [j.id for j in rows]
    if st.session_state.get(_ROWS) != ids:
        st.session_state[_ROWS], st.session_state[_MOVED] = ids, monotonic()


def _open(row: int) -> None:
    if monotonic() - st.session_state[_MOVED] >= SETTLE_S:
        st.query_params["job"] = st.session_state[_ROWS][row]
