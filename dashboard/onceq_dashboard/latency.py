"""Where time goes, as data frames: by model or band over time, by phase, by verdict. Pure: wire values in, frames out.

Times are `datetime64[us, UTC]`, durations float seconds (NaN where no job tells), counts int64.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, Literal

import pandas as pd

from onceq.wire import CostPoint, Job, Totals
from onceq.wire.phases import PHASES, VERDICTS, Verdict
from onceq_dashboard.frames import NOBODY, times
from onceq_dashboard.quantiles import mixed

Split = Literal["model", "band"]

PARTS: Final[dict[str, tuple[str, ...]]] = {
    "start time, budget": ("scheduled", "budget"),
    "queue": ("queue",),
    "provider's limits": ("limiter",),
    "onceq": ("accept", "worker", "delivery"),
    "first token": ("connect", "provider_ttft"),
    "writing": ("generation",),
    "stalls, retries": ("stalls", "backoff"),
}
"""Phases as a chart shows them, in the order of a job's life as far as that goes: seven colours can be told apart."""
PART_OF: Final = {phase: part for part, phases in PARTS.items() for phase in phases}
VERDICT_WORDS: Final[dict[Verdict, str]] = {
    "queue": "queue: too few workers, or our own limits",
    "our_code": "our code",
    "provider_slow": "the provider was slow",
    "provider_throttled": "the provider held us back",
    "budget": "a budget",
    "client_slow": "the reader was slow",
}


def quantiles_by_hour(points: Sequence[CostPoint], hours: Sequence[datetime], split: Split) -> pd.DataFrame:
    """One row an hour and group that has jobs: `hour`, `group`, `jobs`, and p50 and p95 of ttft and total in seconds.

    The columns are `ttft_p50_s`, `ttft_p95_s`, `total_p50_s`, `total_p95_s`. Hours without jobs are a row each too,
    with NaN, so that a line is broken there.
    """
    cells: defaultdict[tuple[str, datetime], list[Totals]] = defaultdict(list)
    for p in points:
        cells[getattr(p, split) or NOBODY, p.at].append(p.totals)
    groups = sorted({group for group, _ in cells})
    at = [(hour, group) for group in groups for hour in hours]
    frame = pd.DataFrame({"hour": times([h for h, _ in at]), "group": pd.Series([g for _, g in at], dtype="str")})
    return frame.join(_quantiles([cells.get((g, h), []) for h, g in at]))


def busiest(frame: pd.DataFrame, most: int) -> list[str]:
    """The groups of such a frame that have most jobs, at most so many; ties by name."""
    jobs = frame.groupby("group")["jobs"].sum()
    return sorted(jobs.index, key=lambda group: (-int(jobs[group]), group))[:most]


def by_group(points: Sequence[CostPoint], split: Split) -> pd.DataFrame:
    """One row a group, the one with most jobs first: `group` and the columns of `quantiles_by_hour`."""
    cells: defaultdict[str, list[Totals]] = defaultdict(list)
    for p in points:
        cells[getattr(p, split) or NOBODY].append(p.totals)
    order = sorted(cells, key=lambda g: (-sum(t.jobs for t in cells[g]), g))
    return pd.DataFrame({"group": pd.Series(order, dtype="str")}).join(_quantiles([cells[g] for g in order]))


def _quantiles(cells: Iterable[Sequence[Totals]]) -> pd.DataFrame:
    rows = list(cells)
    columns: dict[str, pd.Series[float] | pd.Series[int]] = {
        "jobs": pd.Series([sum(t.jobs for t in row) for row in rows], dtype="int64")
    }
    for name in ("ttft", "total"):
        for quantile, q in (("p50", 0.5), ("p95", 0.95)):
            found = [mixed([getattr(t, name) for t in row], q) for row in rows]
            columns[f"{name}_{quantile}_s"] = pd.Series(found, dtype="float64")
    return pd.DataFrame(columns)


def phases_by_hour(points: Sequence[CostPoint], hours: Sequence[datetime]) -> pd.DataFrame:
    """One row an hour and part of a job's life (of `PARTS`): `hour`, `part`, `seconds` a job that ended. May be empty.

    Empty when no job of these points tells its phases.
    """
    if not any(p.totals.phases for p in points):
        return pd.DataFrame({"hour": times([]), "part": pd.Series(dtype="str"), "seconds": pd.Series(dtype="float64")})
    spent: defaultdict[datetime, Counter[str]] = defaultdict(Counter)
    jobs: Counter[datetime] = Counter()
    for p in points:
        spent[p.at].update(parts_of(p.totals.phases))  # pyright: ignore[reportArgumentType] - a Counter of seconds
        jobs[p.at] += ended(p.totals) if p.totals.phases else 0
    at = [(hour, part) for hour in hours for part in PARTS]
    return pd.DataFrame({
        "hour": times([h for h, _ in at]),
        "part": pd.Series([part for _, part in at], dtype="str"),
        "seconds": pd.Series([spent[h][part] / max(1, jobs[h]) for h, part in at], dtype="float64"),
    })  # fmt: skip


def parts_of(phases: Mapping[str, float]) -> dict[str, float]:
    """Seconds by part (of `PARTS`) of seconds by phase; a phase of a newer service is left out."""
    sums: defaultdict[str, float] = defaultdict(float)
    for phase, seconds in phases.items():
        if phase.removesuffix("_s") in PART_OF:
            sums[PART_OF[phase.removesuffix("_s")]] += seconds
    return sums


def ended(totals: Totals) -> int:
    """Jobs that ended, well or not."""
    return totals.succeeded + totals.failed + totals.cancelled + totals.expired


def verdicts_by_hour(points: Sequence[CostPoint], hours: Sequence[datetime]) -> pd.DataFrame:
    """One row an hour and verdict, zeros included: `hour`, `verdict`, `jobs`. Empty when no job has a verdict."""
    sums: Counter[tuple[datetime, str]] = Counter()
    for p in points:
        for verdict, jobs in p.totals.verdicts.items():
            sums[p.at, verdict] += jobs
    at = [(hour, verdict) for hour in hours for verdict in VERDICTS] if sums.total() else []
    return pd.DataFrame({
        "hour": times([h for h, _ in at]),
        "verdict": pd.Series([v for _, v in at], dtype="str"),
        "jobs": pd.Series([sums[cell] for cell in at], dtype="int64"),
    })  # fmt: skip


def waterfall(job: Job) -> pd.DataFrame:
    """One row a phase that took time, in the order of a job's life: `phase`, `part`, `from_s`, `to_s`, `seconds`.

    The phases of several tries are added up, so that the bars are how long, and not when. Empty for a job without.
    """
    phases = job.timings.phases
    spent = [(name, float(getattr(phases, f"{name}_s"))) for name in PHASES] if phases else []
    rows = [(name, seconds) for name, seconds in spent if seconds > 0]
    ends = [round(sum(seconds for _, seconds in rows[: n + 1]), 3) for n in range(len(rows))]
    return pd.DataFrame({
        "phase": pd.Series([name.replace("_", " ") for name, _ in rows], dtype="str"),
        "part": pd.Series([PART_OF.get(name, "onceq") for name, _ in rows], dtype="str"),
        "from_s": pd.Series([0.0, *ends[:-1]][: len(rows)], dtype="float64"),
        "to_s": pd.Series(ends, dtype="float64"),
        "seconds": pd.Series([seconds for _, seconds in rows], dtype="float64"),
    })  # fmt: skip
