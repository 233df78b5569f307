"""Is all well? One word and the reasons, from what the service says of itself. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from onceq.wire import CostPoint, Health, Lanes, Stats
from onceq_dashboard.format import code_span, count, duration, literal, share, some

Level = Literal["ok", "degraded", "down"]

OLDEST_WAITING_S: Final = 300.0
"""A job that waits longer than this makes the queue a problem, whatever its length."""
FAILED_SHARE: Final = 0.05
FAILED_AT_LEAST: Final = 3
"""Failures are a problem from this many and from this share of all ended jobs, whichever comes later."""
NAMED: Final = 3
"""Lanes that a sentence names; of more it tells how many."""
TREND_S: Final = 60.0
SEEN_S: Final = 10.0
GROWN_BY: Final = 10
"""The queue grows when, over about a minute, it gained this many jobs and a fifth of its length."""


@dataclass(frozen=True, slots=True)
class Sample:
    """How many jobs were queued at a time, and the output tokens that were booked since the last hour but one began."""

    at: datetime
    queued: int
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """One word; `reasons` are sentences in Markdown, the worst first; empty when all is well."""

    level: Level
    reasons: tuple[str, ...] = ()


def judge(stats: Stats, health: Health, lanes: Lanes, history: Sequence[Sample] = ()) -> Verdict:
    """What a person needs to know first. `history` is what this page has seen of the queue, oldest first."""
    down = (*_not_ready(health), *_nobody_works(stats))
    degraded = (
        *_relaxed(stats, health), *_problems(health), *_held(lanes, stats.at), *_queue(stats, history),
        *_failures(stats),
    )  # fmt: skip
    level: Level = "down" if down else "degraded" if degraded else "ok"
    return Verdict(level, down + degraded)


ALL_WELL: Final = (
    f"Accepted jobs are safe, workers are alive, no job has waited {duration(OLDEST_WAITING_S)}, and fewer than "
    f"{100 * FAILED_SHARE:.0f} % of the jobs that ended in the last hour or two failed."
)
"""What `ok` says: no more than what `judge` has looked at."""


def remember(history: Sequence[Sample], stats: Stats) -> tuple[Sample, ...]:
    """The history with this reading added, and only what the trend needs kept."""
    since = stats.at - timedelta(seconds=2 * TREND_S)
    kept = [s for s in history if since <= s.at < stats.at]
    return (*kept, Sample(stats.at, stats.depth.queued, _tokens(stats)))


def tokens_per_s(history: Sequence[Sample], stats: Stats) -> float | None:
    """Output tokens a second of the calls that ended in the last minute or two that this page has seen.

    Before it has seen ten seconds, and over the turn of an hour, it is the mean of this hour; None in its first minute.
    """
    now, first = _tokens(stats), next(iter(history), None)
    if first and stats.at - first.at >= timedelta(seconds=SEEN_S) and now >= first.tokens:
        return (now - first.tokens) / (stats.at - first.at).total_seconds()
    this_hour = _hour(stats.at)
    elapsed = (stats.at - this_hour).total_seconds()
    booked = sum(p.totals.output_tokens for p in stats.hours if p.at >= this_hour)
    return booked / elapsed if elapsed >= TREND_S else None


def _tokens(stats: Stats) -> int:
    return sum(p.totals.output_tokens for p in recent_points(stats.hours, stats.at))


def _not_ready(health: Health) -> list[str]:
    if health.status != "unavailable":
        return []
    return [f"The service is not ready: {literal('; '.join(health.problems) or 'it does not say why')}."]


def _nobody_works(stats: Stats) -> list[str]:
    if stats.fleet.processes or stats.workers:
        return []
    waiting = f", {some(stats.depth.queued, 'job')} waiting" if stats.depth.queued else ""
    return [f"No live worker{waiting}: start one with `onceq worker`. Jobs are accepted and safe, but nothing runs."]


def _relaxed(stats: Stats, health: Health) -> list[str]:
    if "relaxed" not in {stats.durability, health.durability}:
        return []
    return [
        "Durability is relaxed: a crash of Redis can lose accepted jobs. `onceq doctor` says which setting to mend."
    ]


def _problems(health: Health) -> list[str]:
    return [f"{literal(p)}" for p in health.problems] if health.status == "degraded" else []


def _held(lanes: Lanes, at: datetime) -> list[str]:
    """Providers that throttle us or fail, and what somebody has paused."""
    braked = [lane for lane in lanes.lanes if lane.braked_until and lane.braked_until > at]
    why = {lane.brake_reason or "provider_error" for lane in braked}
    found: list[str] = []
    if braked:
        names = _listed([lane.lane for lane in braked])
        found.append(f"{names} held back by the provider ({', '.join(code_span(w) for w in sorted(why))}).")
    paused = [lane.lane for lane in lanes.lanes if lane.paused] + [f"{band} band" for band in lanes.paused_bands]
    if paused:
        found.append(f"Paused by hand: {_listed(paused)}. Nothing of it starts until `onceq lanes resume`.")
    return found


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(code_span(name) for name in names[:NAMED])
    return f"{shown} and {len(names) - NAMED} more" if len(names) > NAMED else shown


def _queue(stats: Stats, history: Sequence[Sample]) -> list[str]:
    found: list[str] = []
    then = next((s for s in history if stats.at - s.at <= timedelta(seconds=TREND_S)), None)
    if then and stats.at - then.at >= timedelta(seconds=TREND_S / 2):
        grown = stats.depth.queued - then.queued
        if grown >= max(GROWN_BY, then.queued / 5):
            seconds = (stats.at - then.at).total_seconds()
            found.append(f"The queue is growing: {count(grown)} more jobs than {seconds:.0f} s ago.")
    if (stats.oldest_queued_s or 0) >= OLDEST_WAITING_S:
        found.append(f"The oldest job has waited {duration(stats.oldest_queued_s)}.")
    return found


def _failures(stats: Stats) -> list[str]:
    recent = [p.totals for p in recent_points(stats.hours, stats.at)]
    failed = sum(t.failed for t in recent)
    ended = failed + sum(t.succeeded + t.cancelled + t.expired for t in recent)
    if failed < max(FAILED_AT_LEAST, FAILED_SHARE * ended):
        return []
    return [f"{share(failed, ended)} of the jobs that ended in the last hour or two failed ({count(failed)} jobs)."]


def recent_points(points: Sequence[CostPoint], at: datetime) -> list[CostPoint]:
    """The points of this hour and of the one before."""
    return [p for p in points if p.at >= _hour(at) - timedelta(hours=1)]


def _hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)
