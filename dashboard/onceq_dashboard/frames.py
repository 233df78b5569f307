"""What the API says, as data frames for charts and tables. Pure: wire values in, frames out.

Money is float US dollars here, for the eye only (exact sums come from the wire's integers, see `export.py`).
Times are `datetime64[us, UTC]`, durations float seconds, counts int64; nothing is NaN unless a docstring says so.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Final

import pandas as pd

from onceq.wire import NANO, TERMINAL, CostPoint, Job, LaneInfo, Lanes, LedgerEntry, Totals, WorkerInfo
from onceq_dashboard.causes import blame, most_first
from onceq_dashboard.estimate import Work
from onceq_dashboard.format import DASH, age, count, duration
from onceq_dashboard.quantiles import mixed

OUTCOMES: Final = ("succeeded", "failed", "cancelled", "expired")
OTHER: Final = "all others"
"""Stands for what is not among the biggest."""
NOBODY: Final = "(none)"
"""Stands for jobs that name no team, or no label."""
HOUR: Final = timedelta(hours=1)
_BY_NAME: Final = ("causes", "wasted_by_reason", "verdicts", "phases", "job_costs")
_WHOLE: Final = tuple(name for name, field in Totals.model_fields.items() if field.annotation is int)


def of_kind(points: Sequence[CostPoint], *, simulated: bool) -> list[CostPoint]:
    """The points of real work, or those of simulated work: the two never meet in one sum."""
    return [p for p in points if p.simulated == simulated]


def added(points: Sequence[CostPoint]) -> Totals:
    """All points of one kind in one, without quantiles, which can't be added up here."""
    sums: dict[str, object] = {name: sum(getattr(p.totals, name) for p in points) for name in _WHOLE}
    for name in _BY_NAME:
        parts: Counter[object] = Counter()
        for p in points:
            parts.update(getattr(p.totals, name))
        sums[name] = dict(parts)
    jobs, calls = sum(p.totals.jobs for p in points), sum(p.totals.calls for p in points)
    return Totals.model_validate(sums | {"bill_amplification": calls / jobs if jobs else None})


def hours(points: Sequence[CostPoint], at: datetime, count: int = 24) -> list[datetime]:
    """The starts of the `count` hours up to that of `at`, and of older ones that have points, oldest first."""
    last = at.replace(minute=0, second=0, microsecond=0)
    first = min([last - (count - 1) * HOUR, *(p.at for p in points)])
    return [first + n * HOUR for n in range((last - first) // HOUR + 1)]


def outcomes_by_hour(points: Sequence[CostPoint], at: datetime) -> pd.DataFrame:
    """One row an hour and outcome, zeros included: `hour`, `outcome` (of `OUTCOMES`), `jobs` that ended so."""
    sums: defaultdict[tuple[datetime, str], int] = defaultdict(int)
    for p in points:
        for outcome in OUTCOMES:
            sums[p.at, outcome] += getattr(p.totals, outcome)
    cells = [(hour, outcome) for hour in hours(points, at) for outcome in OUTCOMES]
    frame = pd.DataFrame({
        "hour": times([h for h, _ in cells]), "outcome": [o for _, o in cells], "jobs": [sums[c] for c in cells],
    })  # fmt: skip
    return frame.astype({"jobs": "int64"})


def ttft_by_hour(points: Sequence[CostPoint], at: datetime) -> pd.DataFrame:
    """One row an hour: `hour`, `p50_s`, `p95_s` (NaN without a first token), `tokens_seen` (jobs with one), `groups`.

    Where an hour has one group the quantiles are the service's own (within 19 %); where it has several (models,
    teams, bands) they are put together by `quantiles.mixed`.
    """
    by_hour = {
        hour: [p.totals.ttft for p in points if p.at == hour and p.totals.ttft.count] for hour in hours(points, at)
    }
    return pd.DataFrame({
        "hour": times(list(by_hour)),
        "p50_s": pd.Series([mixed(q, 0.5) for q in by_hour.values()], dtype="float64"),
        "p95_s": pd.Series([mixed(q, 0.95) for q in by_hour.values()], dtype="float64"),
        "tokens_seen": pd.Series([sum(q.count for q in part) for part in by_hour.values()], dtype="int64"),
        "groups": pd.Series([len(part) for part in by_hour.values()], dtype="int64"),
    })  # fmt: skip


def causes(totals: Totals) -> pd.DataFrame:
    """One row an error code, the most frequent first: `code`, `blame` (see `causes.py`), `jobs` that ended with it.

    Together they are all jobs that ended without an answer: one that somebody cancelled has no error, and is added.
    """
    by_hand = totals.cancelled - sum(totals.causes.get(code, 0) for code in ("cancelled", "disconnected"))
    cancelled = totals.causes.get("cancelled", 0) + max(0, by_hand)
    return _by_code(most_first(totals.causes | {"cancelled": cancelled}))


def _by_code(rows: Sequence[tuple[str, int]]) -> pd.DataFrame:
    return pd.DataFrame({
        "code": pd.Series([code for code, _ in rows], dtype="str"),
        "blame": pd.Series([blame(code) for code, _ in rows], dtype="str"),
        "jobs": pd.Series([n for _, n in rows], dtype="int64"),
    })  # fmt: skip


def times(values: Sequence[datetime]) -> pd.Series[pd.Timestamp]:
    """A column of times."""
    return pd.to_datetime(pd.Series(list(values), dtype="object"), utc=True).astype("datetime64[us, UTC]")


def dollars(nano: Sequence[int | None]) -> pd.Series[float]:
    """A column of US dollars of nano-USD."""
    return pd.Series([None if n is None else n / NANO for n in nano], dtype="float64")


def job_table(jobs: Sequence[Job], now: datetime) -> pd.DataFrame:
    """One row a job, in the order given.

    `job` (the id's end), `status`, `age` (text), `model`, `team` (empty without), `ttft_s`, `total_s` (NaN while
    unknown), `cost_usd` (NaN while unpriced, and until something is booked), `kind` ("simulated" or "real"),
    `input_tokens`, `output_tokens` (NA while unknown), `calls` ("calls / tries"), `band`.
    """
    columns: dict[str, tuple[str, Callable[[Job], object]]] = {
        "job": ("str", lambda j: id_end(j.id)),
        "status": ("str", lambda j: f"{MARKS[j.status]} {j.status}"),
        "age": ("str", lambda j: age((now - j.created_at).total_seconds())),
        "model": ("str", lambda j: j.model),
        "team": ("str", lambda j: j.team or ""),
        "ttft_s": ("float64", lambda j: j.timings.ttft_s),
        "total_s": ("float64", lambda j: j.timings.total_s),
        "cost_usd": ("float64", booked_usd),
        "kind": ("str", lambda j: "simulated" if j.simulated else "real"),
        "input_tokens": ("Int64", lambda j: j.usage and j.usage.input_tokens),
        "output_tokens": ("Int64", lambda j: j.usage and j.usage.output_tokens),
        "calls": ("str", lambda j: f"{j.calls} / {j.tries}"),
        "band": ("str", lambda j: j.band),
    }
    return pd.DataFrame(
        {name: pd.Series([read(j) for j in jobs], dtype=kind) for name, (kind, read) in columns.items()}
    )


def id_end(job_id: str) -> str:
    """Enough of an id to tell jobs apart: it begins with the time, which jobs of one moment share."""
    return f"…{job_id[-8:]}"


def booked_usd(job: Job) -> float | None:
    """What is booked for a job; None while a call of it is unpriced, and while it goes on with nothing booked yet."""
    nano = job.cost.nano_usd
    return None if nano is None or (nano == 0 and job.status not in TERMINAL) else nano / NANO


MARKS: Final = {"queued": "○", "running": "◐", "succeeded": "✓", "failed": "✕", "cancelled": "⊘", "expired": "⧖"}


def ledger_table(rows: Sequence[LedgerEntry]) -> pd.DataFrame:
    """One row a try, oldest first.

    `at`, `try`, `call`, `model`, `outcome`, `billed`, `tokens` ("reported" or "estimated"), `input_tokens`,
    `output_tokens`, `spent_usd` (NaN while unpriced), `wasted_usd`, `waste_reason` (empty without), `price_version`.
    """
    frame = pd.DataFrame({
        "at": times([r.at for r in rows]),
        "try": pd.Series([r.try_no for r in rows], dtype="int64"),
        "call": pd.Series([r.call for r in rows], dtype="int64"),
        "model": pd.Series([r.model for r in rows], dtype="str"),
        "outcome": pd.Series([r.outcome for r in rows], dtype="str"),
        "billed": pd.Series([r.billed for r in rows], dtype="bool"),
        "tokens": pd.Series(["estimated" if r.estimated else "reported" for r in rows], dtype="str"),
        "input_tokens": pd.Series([r.input_tokens for r in rows], dtype="int64"),
        "output_tokens": pd.Series([r.output_tokens for r in rows], dtype="int64"),
    })  # fmt: skip
    frame["spent_usd"] = dollars([r.spent_nano_usd for r in rows])
    frame["wasted_usd"] = dollars([r.wasted_nano_usd for r in rows])
    frame["waste_reason"] = pd.Series([r.waste_reason or "" for r in rows], dtype="str")
    frame["price_version"] = pd.Series([r.price_version for r in rows], dtype="str")
    return frame


def by_cause(letters: Sequence[Job]) -> list[tuple[str, int]]:
    """Error codes with how many of the jobs have each, the most frequent first."""
    return most_first(Counter(letter.error.code for letter in letters if letter.error))


def letter_causes(letters: Sequence[Job]) -> pd.DataFrame:
    """One row an error code of these jobs, the most frequent first: `code`, `blame` (see `causes.py`), `jobs`."""
    return _by_code(by_cause(letters))


def letter_table(letters: Sequence[Job], price: Mapping[Work, Fraction], now: datetime) -> pd.DataFrame:
    """One row a failed job, in the order given.

    `job` (the id's end), `ended` (text), `code`, `blame`, `model`, `team` (empty without), `calls` ("calls / tries"),
    `spent_usd` (NaN while unpriced), `again_usd` (what an answer of its model has cost; NaN where unknown), `kind`
    ("simulated" or "real").
    """
    codes = [letter.error.code if letter.error else "" for letter in letters]
    again = [price.get((letter.model, letter.simulated)) for letter in letters]
    return pd.DataFrame({
        "job": pd.Series([id_end(j.id) for j in letters], dtype="str"),
        "ended": pd.Series([age((now - (j.finished_at or now)).total_seconds()) for j in letters], dtype="str"),
        "code": pd.Series(codes, dtype="str"),
        "blame": pd.Series([blame(code) for code in codes], dtype="str"),
        "model": pd.Series([j.model for j in letters], dtype="str"),
        "team": pd.Series([j.team or "" for j in letters], dtype="str"),
        "calls": pd.Series([f"{j.calls} / {j.tries}" for j in letters], dtype="str"),
        "spent_usd": dollars([j.cost.nano_usd for j in letters]),
        "again_usd": dollars([None if nano is None else round(nano) for nano in again]),
        "kind": pd.Series(["simulated" if j.simulated else "real" for j in letters], dtype="str"),
    })  # fmt: skip


def worker_table(workers: Sequence[WorkerInfo], now: datetime) -> pd.DataFrame:
    """One row a live worker process: `id`, `host`, `pid`, `running`, `capacity` (jobs), `providers`, `seen` (text)."""
    return pd.DataFrame({
        "id": pd.Series([w.id for w in workers], dtype="str"),
        "host": pd.Series([w.host for w in workers], dtype="str"),
        "pid": pd.Series([w.pid for w in workers], dtype="int64"),
        "running": pd.Series([w.running for w in workers], dtype="int64"),
        "capacity": pd.Series([w.capacity for w in workers], dtype="int64"),
        "providers": pd.Series([", ".join(w.providers) for w in workers], dtype="str"),
        "seen": pd.Series([age((now - w.seen_at).total_seconds()) for w in workers], dtype="str"),
    })  # fmt: skip


def lane_table(lanes: Lanes, now: datetime) -> pd.DataFrame:
    """One row a lane, as `held_first`.

    `lane`, `state` (text), `why` (empty without), `running` (NA where unknown), `limits`.
    """
    ordered = held_first(lanes, now)
    return pd.DataFrame({
        "lane": pd.Series([lane.lane for lane in ordered], dtype="str"),
        "state": pd.Series([lane_state(lane, now) for lane in ordered], dtype="str"),
        "why": pd.Series([(lane.brake_reason or "") if braked(lane, now) else "" for lane in ordered], dtype="str"),
        "running": pd.Series([lane.running for lane in ordered], dtype="Int64"),
        "limits": pd.Series([_limits(lane) for lane in ordered], dtype="str"),
    })  # fmt: skip


def held_first(lanes: Lanes, now: datetime) -> list[LaneInfo]:
    """By name, what is held back before the others: an order that stays while a page is read again."""
    return sorted(lanes.lanes, key=lambda lane: (lane_state(lane, now) == "open", lane.lane))


def braked(lane: LaneInfo, now: datetime) -> bool:
    """Whether nothing of the lane starts because its provider said so."""
    return lane.braked_until is not None and lane.braked_until > now


def lane_state(lane: LaneInfo, now: datetime) -> str:
    """What holds a lane back, the strongest first; "open" where nothing does."""
    if lane.paused:
        return "paused"
    if lane.braked_until is not None and braked(lane, now):
        return f"braked for {duration((lane.braked_until - now).total_seconds())}"
    return "on trial" if lane.breaker == "half_open" else "open"


def _limits(lane: LaneInfo) -> str:
    named = {
        "requests_per_minute": "requests/min", "input_tokens_per_minute": "in/min",
        "output_tokens_per_minute": "out/min", "concurrency": "at once",
    }  # fmt: skip
    limits = lane.learned_limits | lane.limits
    return ", ".join(f"{count(n)} {named.get(name, name)}" for name, n in limits.items()) or DASH
