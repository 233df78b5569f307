"""Failures: dead letters by cause, one opened, and asked again one by one or all that fit, with what that will cost."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final

import streamlit as st

from onceq import Job, Stats
from onceq_dashboard import actions, charts, estimate, frames, source
from onceq_dashboard.access import ApiAccess, SourceError
from onceq_dashboard.actions import Replayed
from onceq_dashboard.estimate import Estimate
from onceq_dashboard.format import clock, count, duration, some, usd
from onceq_dashboard.source import DeadLetterFilter
from onceq_dashboard.views import job, parts
from onceq_dashboard.views.parts import Tile

SIZE: Final = 100
"""Dead letters that are read, shown and asked again at once."""
_TABLE_PX: Final = 420
_TABLE, _ROWS, _DONE = "failures_table", "failures_rows", "failures_done"
_CAUSE, _MODEL, _TEAM = "failures_cause", "failures_model", "failures_team"

COLUMNS: Final = {
    "ended": st.column_config.TextColumn("Ended", width=90),
    "code": st.column_config.TextColumn("Error", width=180),
    "blame": st.column_config.TextColumn("Whom to ask", width=140),
    "model": st.column_config.TextColumn("Model", width=215),
    "team": st.column_config.TextColumn("Team", width=90),
    "calls": st.column_config.TextColumn("Calls/tries", width=90, help="Requests that may be billed / all of them"),
    "spent_usd": st.column_config.NumberColumn("Spent, $", format="%.6f", width=95, help="US dollars, all calls"),
    "again_usd": st.column_config.NumberColumn(
        "Again, about $", format="%.6f", width=110, help=f"What an answer of its model cost in {estimate.DAYS} days"
    ),
    "kind": st.column_config.TextColumn("Money", width=85, help="Nobody was billed for a simulated call"),
}


def show(access: ApiAccess) -> None:
    """The dead letters, or the one that the address names."""
    opened = st.query_params.get("job")
    if opened:
        job.show(access, opened, back="All failures")
        return
    st.title("Failures", anchor=False)
    _outcome()
    letters_of = partial(source.dead_letters, wanted=DeadLetterFilter(), size=SIZE)
    source.ahead(access, source.stats, letters_of, source.prices, source.scopes)
    with parts.show_errors():
        stats, letters = source.stats(access), source.dead_letters(access, DeadLetterFilter(), SIZE)
    if letters:
        _filled(access, stats, letters)
    else:
        st.success("No dead letters: every job that failed was asked again, or none failed.", icon=":material/inbox:")


def _filled(access: ApiAccess, stats: Stats, letters: list[Job]) -> None:
    with parts.show_errors():
        price, scopes = source.prices(access), source.scopes(access)
    parts.tiles(_sums(stats, estimate.of_replay(letters, price), len(letters)), columns=4)
    _why(letters, stats.dead_letters)
    wanted = _filters(letters)
    with parts.show_errors():
        shown = source.dead_letters(access, wanted, SIZE) if any(wanted) else letters
    if not shown:
        st.info("No dead letter fits these filters.", icon=":material/search_off:")
        return
    _again(access, wanted, shown, estimate.of_replay(shown, price), may="submit" in scopes)
    st.session_state[_ROWS] = [letter.id for letter in shown]
    table = frames.letter_table(shown, price, datetime.now(UTC))
    parts.jobs_table(table, _TABLE, COLUMNS, _open, height=parts.at_most(_TABLE_PX, table))
    st.caption(f"{_newest(len(shown))}, as of {clock(datetime.now(parts.zone()))}. {parts.HOW_TO_OPEN}")


def _sums(stats: Stats, again: Estimate, read: int) -> list[Tile]:
    oldest = duration(stats.oldest_dead_letter_s)
    totals = stats.last_24h_simulated if stats.simulated else stats.last_24h
    all_of = "all of them" if stats.dead_letters <= read else f"the newest {read}"
    return [
        Tile("Dead letters", count(stats.dead_letters), "Failed jobs that nobody has asked again yet."),
        Tile("Oldest", oldest, "How long the oldest of them has waited for somebody."),
        Tile("Failed in 24 h", count(totals.failed), "Jobs that ended as failed, those asked again since included."),
        Tile(
            "Asking again",
            _about(again),
            f"What it will about cost to ask {all_of} again. {estimate.HOW}",
            _mark(again),
        ),
    ]


def _mark(again: Estimate) -> str | None:
    return parts.money_mark(simulated=bool(again.simulated_nano_usd and not again.real_nano_usd))


def _about(again: Estimate) -> str:
    if not again.known:
        return "unknown"
    return f"≈ {usd(again.real_nano_usd or again.simulated_nano_usd)}"


def _why(letters: list[Job], known: int) -> None:
    about = "dead letters by error" + (f", the newest {len(letters)}" if known > len(letters) else "")
    frame = frames.letter_causes(letters)
    with parts.card("Why they failed", about):
        parts.chart(charts.causes(frame, top=charts.TOP_GROUPS), "chart_letters", "Dead letters by error code")
        parts.as_data(frame, "data_letters")


def _filters(letters: Sequence[Job]) -> DeadLetterFilter:
    causes = [code for code, _ in frames.by_cause(letters)]
    models, teams = sorted({j.model for j in letters}), sorted({j.team for j in letters if j.team})
    with st.grid(3, min_column_width=148):
        cause, model, team = (
            _choice("Error", _CAUSE, causes), _choice("Model", _MODEL, models), _choice("Team", _TEAM, teams),
        )  # fmt: skip
    return DeadLetterFilter(cause, model, team)


def _choice(label: str, key: str, options: Sequence[str]) -> str | None:
    """In the address too, to keep or to send on; older letters may have what none of the newest has."""
    picked = st.selectbox(
        label, options, None, key=key, placeholder="Any", accept_new_options=True, bind="query-params",
        on_change=parts.complete, args=(key, {option: option for option in options}),
    )  # fmt: skip
    return picked or None


def _newest(number: int) -> str:
    return f"The newest {some(number, 'dead letter')}" if number == SIZE else some(number, "dead letter")


def _again(access: ApiAccess, wanted: DeadLetterFilter, shown: list[Job], cost: Estimate, *, may: bool) -> None:
    these = "this one" if len(shown) == 1 else f"these {len(shown)}"
    with st.popover(f"Ask {these} again …", icon=":material/replay:", disabled=not may):
        st.write(estimate.bill(len(shown), cost))
        st.caption(estimate.HOW)
        st.button(
            f"Ask {these} again now", type="primary", on_click=_do_again, args=(access, wanted, len(shown)),
        )  # fmt: skip
    if not may:
        parts.not_allowed(access, "submit", "ask again")


def _do_again(access: ApiAccess, wanted: DeadLetterFilter, number: int) -> None:
    try:
        st.session_state[_DONE] = actions.replay_all(access, wanted, number)
    except SourceError as exc:
        st.toast(exc.trouble.sentence, icon=":material/warning:")


def _outcome() -> None:
    """What became of the jobs that were asked again by the last click, told once."""
    done: Replayed | None = st.session_state.pop(_DONE, None)
    if done is None:
        return
    if done.made:
        st.success(
            f"{some(done.made, 'job')} asked again: the new ones are on the page Jobs.", icon=":material/replay:"
        )
    for sentence, number in done.refused:
        st.warning(f"{some(number, 'job')} not asked again. {sentence}", icon=":material/warning:")


def _open(row: int) -> None:
    st.query_params["job"] = st.session_state[_ROWS][row]
