"""Overview: one look tells whether all is well, what happens now, and what the last 24 hours cost and took."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, datetime
from typing import Final

import streamlit as st

from onceq import Stats
from onceq.wire import CostPoint, Lanes, Totals
from onceq_dashboard import answers, budgets, charts, frames, money, money_charts, source
from onceq_dashboard.access import ApiAccess, SourceError, Trouble
from onceq_dashboard.forecast import forecast
from onceq_dashboard.format import DASH, clock, code_span, count, duration, factor, rate, some, usd
from onceq_dashboard.periods import day_of
from onceq_dashboard.verdict import ALL_WELL, Verdict, judge, remember, tokens_per_s
from onceq_dashboard.views import lanes, parts, start
from onceq_dashboard.views.parts import MarkColour, Tile

REFRESH_S: Final = 2
_HISTORY: Final = "overview_history"
_LAST: Final = "overview_last"
_Known = tuple[Stats, Lanes]


def show(access: ApiAccess) -> None:
    """The page; all of it is one live part, so that its numbers belong together."""
    st.title("Overview", anchor=False)
    _live(access)


@st.fragment(run_every=REFRESH_S)
def _live(access: ApiAccess) -> None:
    try:
        source.ahead(access, source.stats, source.lanes, source.health, source.budgets, source.scopes)
        stats, held = source.stats(access), source.lanes(access)
        verdict = _judged(stats, held, access)
    except SourceError as exc:
        stats, held = _last_known(exc.trouble)
    else:
        st.session_state[_LAST] = stats, held
        _status_line(verdict)
    _numbers(stats, held, access)


def _judged(stats: Stats, held: Lanes, access: ApiAccess) -> Verdict:
    history = remember(st.session_state.get(_HISTORY, ()), stats)
    st.session_state[_HISTORY] = history
    return judge(stats, source.health(access), held, history)


def _last_known(why: Trouble) -> _Known:
    """What was read last, under a callout that says so; ends the run where nothing was read yet."""
    last: _Known | None = st.session_state.get(_LAST)
    if last is None or why.kind in {"key", "scope", "settings"}:
        parts.trouble(why)
        parts.stop()
    when = clock(last[0].at.astimezone(parts.zone()))
    st.error(f"**Down.** {why.sentence} The numbers below are those of {when}.", icon=":material/cloud_off:")
    return last


def _status_line(verdict: Verdict) -> None:
    reasons = "  \n".join(verdict.reasons)
    match verdict.level:
        case "ok":
            st.success(f"**All is well.** {ALL_WELL}", icon=":material/check_circle:")
        case "degraded":
            st.warning(f"**Degraded.** {reasons}", icon=":material/warning:")
        case "down":
            st.error(f"**Down.** {reasons}", icon=":material/error:")


def _numbers(stats: Stats, held: Lanes, access: ApiAccess) -> None:
    at = clock(stats.at.astimezone(parts.zone()))
    st.subheader(f"Now :gray[· {at}]", anchor=False)
    parts.tiles([*_now(stats), _today(stats, access)], columns=7, live=True)
    lanes.show(access, stats, held)
    simulated = parts.simulated_chosen(stats, "overview_kind")
    totals = stats.last_24h_simulated if simulated else stats.last_24h
    st.subheader(f"Last 24 hours{', simulated' if simulated else ''}", anchor=False)
    if simulated:
        parts.simulated_note()
    if totals.jobs:
        parts.answers(_answers(stats, totals, access, simulated=simulated), "overview_answers")
        parts.tiles(_pace(totals) + _money(totals, simulated=simulated))
        _unpriced(totals)
        _charts(stats, totals, simulated=simulated)
    else:
        with parts.show_errors():
            start.first_job(access)


def _answers(stats: Stats, totals: Totals, access: ApiAccess, *, simulated: bool) -> list[answers.Answer]:
    points = frames.of_kind(stats.hours, simulated=simulated)
    found = [answers.where(points), answers.wasted(totals), answers.saved(totals)]
    try:
        days, known = frames.of_kind(source.recent_days(access), simulated=simulated), source.budgets(access)
    except SourceError as exc:
        month = answers.Answer(answers.BUDGET, exc.trouble.sentence)
    else:
        month = answers.month(forecast(days, datetime.now(UTC)), budgets.month_limits(known))
    return [*found, month, answers.slow(totals), answers.to_blame(totals)]


def _now(stats: Stats) -> list[Tile]:
    letters = f", the oldest for {duration(stats.oldest_dead_letter_s)}" if stats.dead_letters else ""
    return [
        Tile(
            "Queued", count(stats.depth.queued),
            "Jobs that wait for a worker. Delayed are those of them that wait for a set time: a retry's, or their own.",
            f"{count(stats.waiting_retry)} delayed" if stats.waiting_retry else None, "gray",
        ),
        Tile("Running", count(stats.depth.running), "Jobs that a worker holds now."),
        Tile("Oldest waiting", duration(stats.oldest_queued_s), "How long the oldest queued job has waited."),
        Tile("Dead letters", count(stats.dead_letters), f"Failed jobs that nobody has replayed yet{letters}."),
        Tile(
            "Slots in use", f"{count(stats.fleet.running)} of {count(stats.fleet.capacity)}",
            f"Jobs that {some(stats.fleet.processes, 'live worker process', 'live worker processes')} run for all "
            "tenants, of those they could.",
        ),
        Tile(
            "Tokens out", rate(tokens_per_s(st.session_state.get(_HISTORY, ()), stats), "/s"),
            "Output tokens a second of the calls that ended in the last minute or two that this page has seen; at "
            "first the mean of this hour.",
        ),
    ]  # fmt: skip


def _today(stats: Stats, access: ApiAccess) -> Tile:
    """What today has cost, against the budget for it where there is one."""
    now = [p.totals for p in frames.of_kind(stats.hours, simulated=stats.simulated) if p.at >= day_of(stats.at)]
    spent, about = money.spent(now), "Since midnight UTC, wasted calls included."
    marks, look = [parts.money_mark(simulated=stats.simulated)], stats.simulated
    try:
        against = budgets.of_today(source.budgets(access))
    except SourceError as exc:
        about += f" Its budget is not known: {exc.trouble.sentence}"
    else:
        if against:
            days = monthrange(stats.at.year, stats.at.month)[1]
            share, words, near = budgets.today(against, spent, days, simulated=stats.simulated)
            share = share.partition(" of ")[0] if stats.simulated else share  # both would not fit on a tile
            marks, look = [share, *marks], look or near
            about += f" Of the budget {code_span(against.name)}: {words}."
        else:
            about += " No budget is set for all of a day or a month."
    colour: MarkColour = "orange" if look else "gray"
    return Tile("Spent today", usd(spent), about, " · ".join(m for m in marks if m) or None, colour)


def _pace(totals: Totals) -> list[Tile]:
    return [
        Tile("Jobs", count(totals.jobs), "Unique jobs that were accepted."),
        Tile("ttft p50", duration(totals.ttft.p50), "Time to first token, from the post: half of the jobs are faster."),
        Tile("ttft p95", duration(totals.ttft.p95), "Time to first token, from the post: 19 of 20 jobs are faster."),
        Tile("Total p95", duration(totals.total.p95), "From the post to the end: 19 of 20 jobs are faster."),
        Tile("Retries", count(totals.retries), "Tries beyond each job's first, refused ones included."),
        Tile("Failed", count(totals.failed), "Jobs that ended as failed; the chart of causes tells why."),
    ]


def _money(totals: Totals, *, simulated: bool) -> list[Tile]:
    mark = parts.money_mark(simulated=simulated)
    per_job, spent = money.per_job(totals), money.amount(totals.spent_nano_usd, totals)
    wasted = money.amount(totals.wasted_nano_usd, totals)
    return [
        Tile("Spent", spent, "What the providers' calls cost, wasted ones included.", mark),
        Tile("Cost per job", DASH if per_job is None else usd(per_job), "Spent ÷ jobs of known price.", mark),
        Tile("Wasted", wasted, "Part of what was spent: calls whose output is in no answer.", mark),
        Tile(
            "Avoided", money.amount(totals.avoided_nano_usd, totals),
            f"What posts that made no new job would have cost: {count(totals.joined)} joined a running one, "
            f"{count(totals.replayed)} got a finished answer.", mark,
        ),
        Tile("Calls", count(totals.calls), "Requests to providers that may be billed."),
        Tile(
            "Bill amplification", factor(totals.bill_amplification),
            "Calls that may be billed ÷ unique jobs. 1.00 is one call a job; every repetition that is paid for again "
            "adds to it.",
        ),
    ]  # fmt: skip


def _unpriced(totals: Totals) -> None:
    if totals.unpriced_calls:
        st.caption(money.unpriced(totals.unpriced_calls))


def _charts(stats: Stats, totals: Totals, *, simulated: bool) -> None:
    points = frames.of_kind(stats.hours, simulated=simulated)
    mark = ", simulated" if simulated else ""
    with st.grid(2, min_column_width=400):
        _outcomes(points, stats)
        _ttft(points, stats)
        _spend(points, stats, mark)
        _causes(totals)


def _outcomes(points: list[CostPoint], stats: Stats) -> None:
    frame = frames.outcomes_by_hour(points, stats.at)
    with parts.card("Jobs that ended", "per hour, last 24 h"):
        parts.chart(charts.outcomes(frame), "chart_outcomes", "Jobs that ended, by hour and outcome")
        parts.as_data(frame, "data_outcomes")


def _ttft(points: list[CostPoint], stats: Stats) -> None:
    frame = frames.ttft_by_hour(points, stats.at)
    with parts.card("Time to first token", "seconds, by hour, last 24 h"):
        if not frame["tokens_seen"].sum():
            st.caption("No job had a token in this time.")
            return
        parts.chart(charts.ttft(frame), "chart_ttft", "Time to first token by hour, p50 and p95")
        parts.as_data(frame, "data_ttft")


def _spend(points: list[CostPoint], stats: Stats, mark: str) -> None:
    frame = money.over_time(points, frames.hours(points, stats.at), "model")
    with parts.card("Spent by model", f"US dollars per hour, last 24 h{mark}"):
        drawn = money_charts.over_time(frame, "model", "hour")
        parts.chart(drawn, "chart_spend", "US dollars by hour and model")
        parts.as_data(frame, "data_spend")


def _causes(totals: Totals) -> None:
    frame = frames.causes(totals)
    with parts.card("Why jobs had no answer", "jobs by error, last 24 h"):
        if frame.empty:
            st.caption("Every job that ended has an answer.")
            return
        parts.chart(charts.causes(frame), "chart_causes", "Jobs that ended without an answer, by error code")
        parts.as_data(frame, "data_causes")
