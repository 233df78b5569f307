"""Overview: one look tells whether all is well, what happens now, and what the last 24 hours cost and took."""

from __future__ import annotations

from typing import Final

import streamlit as st

from onceq import Stats
from onceq.wire import Totals
from onceq_dashboard import charts, frames, source
from onceq_dashboard.format import DASH, count, duration, factor, some, usd
from onceq_dashboard.source import Door, SourceError, Trouble
from onceq_dashboard.verdict import Verdict, judge, remember
from onceq_dashboard.views import parts, start
from onceq_dashboard.views.parts import Tile

REFRESH_S: Final = 2
_HISTORY: Final = "overview_history"
_LAST: Final = "overview_last"


def show(door: Door) -> None:
    """The page; all of it is one live part, so that its numbers belong together."""
    st.title("Overview")
    _live(door)


@st.fragment(run_every=REFRESH_S)
def _live(door: Door) -> None:
    try:
        stats = source.stats(door)
        verdict = _judged(stats, door)
    except SourceError as exc:
        stats = _last_known(exc.trouble)
    else:
        st.session_state[_LAST] = stats
        _status_line(verdict)
    _numbers(stats, door)


def _judged(stats: Stats, door: Door) -> Verdict:
    history = remember(st.session_state.get(_HISTORY, ()), stats)
    st.session_state[_HISTORY] = history
    return judge(stats, source.health(door), history)


def _last_known(why: Trouble) -> Stats:
    """What was read last, under a callout that says so; ends the run where nothing was read yet."""
    last: Stats | None = st.session_state.get(_LAST)
    if last is None or why.kind in {"key", "scope", "settings"}:
        parts.trouble(why)
        st.stop()
    when = f"{last.at.astimezone(parts.zone()):%H:%M:%S}"
    st.error(f"**Down.** {why.sentence} The numbers below are those of {when}.", icon="🔌")
    return last


def _status_line(verdict: Verdict) -> None:
    reasons = "  \n".join(verdict.reasons)
    match verdict.level:
        case "ok":
            st.success("**All is well.** Durable, workers alive, nothing piles up, nothing fails.", icon="✅")
        case "degraded":
            st.warning(f"**Degraded.** {reasons}", icon="⚠️")
        case "down":
            st.error(f"**Down.** {reasons}", icon="🛑")


def _numbers(stats: Stats, door: Door) -> None:
    simulated = parts.simulated_chosen(stats, "overview_kind")
    if simulated:
        parts.simulated_note()
    st.subheader("Now", anchor=False)
    parts.tiles(_now(stats))
    totals = stats.last_24h_simulated if simulated else stats.last_24h
    st.subheader("Last 24 hours, simulated" if simulated else "Last 24 hours", anchor=False)
    if totals.jobs:
        parts.tiles(_money(totals) + _pace(totals))
        _unpriced(totals)
        _charts(stats, simulated=simulated)
    else:
        with parts.told():
            start.first_job(door)
    _workers(stats)


def _now(stats: Stats) -> list[Tile]:
    running, capacity = sum(w.running for w in stats.workers), sum(w.capacity for w in stats.workers)
    return [
        Tile("Queued", count(stats.depth.queued), "Jobs that wait for a worker, those that wait for a retry included."),
        Tile("Running", count(stats.depth.running), "Jobs that a worker holds now."),
        Tile("Waiting for retry", count(stats.waiting_retry), "Queued jobs whose next try has a time set."),
        Tile("Oldest waiting", duration(stats.oldest_queued_s), "How long the oldest queued job has waited."),
        Tile("Live workers", count(len(stats.workers)), "Worker processes that gave a sign of life."),
        Tile(
            "Slots in use", f"{count(running)} of {count(capacity)}", "Jobs that the workers run, of those they could."
        ),
    ]


def _money(totals: Totals) -> list[Tile]:
    per_job = totals.spent_nano_usd // totals.jobs if totals.jobs else None
    saved = totals.joined + totals.replayed
    return [
        Tile(
            "Bill amplification",
            factor(totals.bill_amplification),
            "Calls that may be billed ÷ unique jobs. 1.00 is one call a job; every client retry that is paid for again "
            "adds to it.",
        ),
        Tile("Spent", usd(totals.spent_nano_usd), "What the providers' calls cost, wasted ones included."),
        Tile("Cost per job", DASH if per_job is None else usd(per_job), "Spent ÷ jobs."),
        Tile("Wasted", usd(totals.wasted_nano_usd), "Part of what was spent: calls whose output is in no answer."),
        Tile("Jobs", count(totals.jobs), "Unique jobs that were accepted."),
        Tile(
            "Not paid twice",
            count(saved),
            f"Posts that made no new job: {count(totals.joined)} joined a running one, {count(totals.replayed)} got "
            "a finished answer.",
        ),
    ]


def _pace(totals: Totals) -> list[Tile]:
    return [
        Tile("ttft p50", duration(totals.ttft.p50), "Time to first token, from the post: half of the jobs are faster."),
        Tile("ttft p95", duration(totals.ttft.p95), "Time to first token, from the post: 19 of 20 jobs are faster."),
        Tile("Total p50", duration(totals.total.p50), "From the post to the end: half of the jobs are faster."),
        Tile("Total p95", duration(totals.total.p95), "From the post to the end: 19 of 20 jobs are faster."),
        Tile("Retries", count(totals.retries), "Tries beyond each job's first."),
        Tile("Failed", count(totals.failed), "Jobs that ended without an answer."),
    ]


def _unpriced(totals: Totals) -> None:
    if totals.unpriced_calls:
        st.caption(f"{some(totals.unpriced_calls, 'call')} of unknown price: in none of the sums above.")


def _charts(stats: Stats, *, simulated: bool) -> None:
    points = frames.of_kind(stats.hours, simulated=simulated)
    outcomes, ttft = frames.outcomes_by_hour(points, stats.at), frames.ttft_by_hour(points, stats.at)
    spend = frames.spend_by_hour(points, stats.at)
    with st.grid(3, min_column_width=330):
        with st.container(border=True):
            st.markdown("**Jobs by outcome**, per hour")
            st.altair_chart(charts.outcomes(outcomes), key="chart_outcomes", alt="Jobs that ended, by hour and outcome")
            parts.as_data(outcomes, "data_outcomes")
        with st.container(border=True):
            st.markdown("**Time to first token**, seconds")
            st.altair_chart(charts.ttft(ttft), key="chart_ttft", alt="Time to first token by hour, p50 and p95")
            parts.as_data(ttft, "data_ttft")
        with st.container(border=True):
            st.markdown("**Spend by model**, US dollars per hour")
            st.altair_chart(charts.spend(spend), key="chart_spend", alt="US dollars by hour and model")
            parts.as_data(spend, "data_spend")


def _workers(stats: Stats) -> None:
    if stats.workers:
        with st.expander(f"Workers ({len(stats.workers)})"):
            parts.table(frames.worker_table(stats.workers, stats.at), "workers")
