"""Budgets: how each stands; made, changed and deleted by who may."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import streamlit as st

from onceq.wire import BudgetMode, BudgetStatus
from onceq_dashboard import actions, budgets, source
from onceq_dashboard.access import ApiAccess, SourceError
from onceq_dashboard.actions import NewBudget
from onceq_dashboard.format import literal, some
from onceq_dashboard.views import parts

CARDS: Final = 12
"""Budgets that have a card of their own; all of them are in the table."""
_NEW: Final = "budgets_new"
_DONE: Final = "budgets_done"
MODES: Final[dict[BudgetMode, str]] = {
    "hard": "hard: a post that may not fit is refused (402)",
    "soft": "soft: refuses nothing, counts and alerts",
}
COLUMNS: Final = {
    "budget": st.column_config.TextColumn("Budget", pinned=True),
    "counts": st.column_config.TextColumn("Counts"),
    "period": st.column_config.TextColumn("Period"),
    "mode": st.column_config.TextColumn("Mode"),
    "limit_usd": st.column_config.NumberColumn("Limit, $", format="%.2f"),
    "spent_usd": st.column_config.NumberColumn("Spent, $", format="%.6f"),
    "reserved_usd": st.column_config.NumberColumn("Reserved, $", format="%.6f", help="Held for calls that go on"),
    "unsure_usd": st.column_config.NumberColumn(
        "Unsure, $", format="%.6f", help="What calls without a usage may cost more"
    ),
    "left_usd": st.column_config.NumberColumn("Left, $", format="%.6f"),
    "taken": st.column_config.NumberColumn("Taken", format="percent"),
    "pace_usd": st.column_config.NumberColumn("At this pace, $", format="%.2f", help="What the period comes to"),
    "refused": st.column_config.NumberColumn("Refused", format="localized", help="Posts answered 402 in this period"),
    "time_zone": st.column_config.TextColumn("Time zone"),
    "source": st.column_config.TextColumn("Set in", help="file: onceq.toml; api: here, or by the SDK"),
    "tenant": st.column_config.TextColumn("Tenant"),
}


def show(access: ApiAccess) -> None:
    """The page; read when it is opened and at each click."""
    st.title("Budgets", anchor=False)
    _outcome()
    source.ahead(access, source.budgets, source.scopes, source.stats)
    with parts.show_errors():
        found, scopes, assumed = source.budgets(access), source.scopes(access), source.stats(access).simulated
    may = "admin" in scopes
    simulated = parts.pick_kind(
        real=any(budgets.taken(b, simulated=False) for b in found),
        simulated=any(budgets.taken(b, simulated=True) for b in found), otherwise=assumed, key="budgets_kind",
    )  # fmt: skip
    if simulated:
        parts.simulated_note()
    if found:
        _filled(access, budgets.fullest_first(found, simulated=simulated), simulated=simulated, may=may)
    else:
        st.info(
            "No budget yet: nothing limits what is spent. Make one below, or in `onceq.toml` under `[[budgets]]`.",
            icon=":material/savings:",
        )
    if may:
        _new(access)
    else:
        parts.not_allowed(access, "admin", "make or change budgets")


def _filled(access: ApiAccess, found: Sequence[BudgetStatus], *, simulated: bool, may: bool) -> None:
    with st.grid(3, min_column_width=300):
        for budget in found[:CARDS]:
            with st.container(border=True, height="stretch"):
                _card(access, budget, simulated=simulated, may=may)
    frame = budgets.table(found, simulated=simulated)
    with st.expander(f"As data ({some(len(found), 'budget')})", expanded=len(found) > CARDS):
        parts.table(frame, "budgets_table", COLUMNS)
        parts.download(frame, "data_budgets")


def _card(access: ApiAccess, budget: BudgetStatus, *, simulated: bool, may: bool) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{literal(budget.name)}**", width="stretch")
        if budgets.is_near(budget, simulated=simulated):
            st.badge("look", icon=":material/flag:", color="orange")
        st.badge(budget.mode, color="blue" if budget.mode == "hard" else "gray")
    st.caption(f"{budgets.scope_words(budget)} · {budgets.PERIODS[budget.period]} ({literal(budget.time_zone)})")
    nano = budgets.taken(budget, simulated=simulated)
    words = budgets.filled(budget, simulated=simulated).replace("$", r"\$")
    full = "full" if nano >= budget.limit_nano_usd else "room"
    with st.container(key=f"budget_{full}_{budget.id}"):
        st.progress(min(1.0, nano / budget.limit_nano_usd), words)
    st.markdown(budgets.stands(budget, datetime.now(UTC), simulated=simulated))
    alerted = budgets.alerted(budget, parts.zone(), simulated=simulated)
    if alerted:
        st.caption(f":material/notifications: {alerted}.")
    if budgets.use_of(budget, simulated=simulated).unpriced_calls:
        calls = budgets.use_of(budget, simulated=simulated).unpriced_calls
        st.caption(f"{some(calls, 'call')} of unknown price: in none of these sums.")
    if budget.source == "file":
        st.caption(":material/lock: Set in `onceq.toml`: change it there, and restart the service.")
    elif may:
        _change(access, budget)


def _change(access: ApiAccess, budget: BudgetStatus) -> None:
    with st.container(horizontal=True):
        with (
            st.popover("Change …", icon=":material/edit:", key=f"budget_change_{budget.id}"),
            st.form(f"budget_form_{budget.id}", border=False),
        ):
            limit = _limit(budget.limit_nano_usd / 1e9)
            mode = st.selectbox("Mode", list(MODES), list(MODES).index(budget.mode))
            st.caption("Holds at once in all replicas; what was spent and reserved stays counted.")
            if st.form_submit_button("Change", type="primary"):
                _tell(
                    lambda: actions.change_budget(access, budget.id, limit, mode), f"Changed: {literal(budget.name)}."
                )
        with st.popover("Delete …", icon=":material/delete:", key=f"budget_delete_{budget.id}"):
            st.write("It limits nothing any more, and what it has counted is forgotten. Jobs that it counted go on.")
            if st.button("Delete this budget", type="primary", key=f"budget_delete_now_{budget.id}"):
                _tell(lambda: actions.delete_budget(access, budget.id), f"Deleted: {literal(budget.name)}.")


def _limit(usd: float) -> float:
    """Asks for it; in cents, but where it is no number of them, as the API takes any."""
    return st.number_input("Limit, US dollars", 1e-9, value=usd, format="%.2f" if usd == round(usd, 2) else "%.9f")


def _new(access: ApiAccess) -> None:
    st.subheader("New budget", anchor=False)
    with st.form(_NEW, width=760):
        with st.grid(2, min_column_width=220):
            name = st.text_input("Name", placeholder="monthly")
            limit = _limit(100.0)
            period = st.selectbox("Period", list(budgets.PERIODS), 2, format_func=budgets.PERIODS.__getitem__)
            mode = st.selectbox("Mode", list(MODES), format_func=MODES.__getitem__)
            team = st.text_input("Team", placeholder="all teams")
            model = st.text_input("Model", placeholder="all models, or openai/*")
            key = st.text_input("API key's id", placeholder="all keys")
            zone = st.text_input("Time zone", "UTC", help="When its hours, days and months begin: Europe/Berlin, ...")
        labels = st.text_input("Labels", placeholder="project=search, step=summary")
        if st.form_submit_button("Make budget", type="primary"):
            wanted = NewBudget(
                name.strip(), limit, period, mode, zone.strip() or "UTC", team.strip() or None,
                key.strip() or None, model.strip() or None, read_labels(labels),
            )  # fmt: skip
            _tell(lambda: actions.create_budget(access, wanted), f"Made: {literal(wanted.name)}.")


def read_labels(text: str) -> dict[str, str]:
    """Of "project=search, step=summary"; a part without "=" is a name without a value, which the service refuses."""
    pairs = (part.partition("=") for part in text.split(",") if part.strip())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _tell(act: parts.Act, done: str) -> None:
    """Do it, and show the page as it is then; or say what went wrong, and leave what was typed."""
    try:
        act()
    except SourceError as exc:
        parts.trouble(exc.trouble)
    else:
        st.session_state[_DONE] = done
        st.rerun()


def _outcome() -> None:
    done: str | None = st.session_state.pop(_DONE, None)
    if done:
        st.toast(done, icon=":material/check:")
