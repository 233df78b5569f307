"""Figures of one run, medians of several, and how they are told."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import median

from benchmarks.cpu import Spent, wait_for_quiet

Figures = Mapping[str, float]
"""One run: name with its unit -> number."""
Case = Callable[[], Figures]


@dataclass(frozen=True, slots=True)
class Report:
    """All runs of one metric, by case; ratios; samples in time; sentences about what is not as it must be."""

    metric: str
    runs: Mapping[str, Sequence[Figures]]
    ratios: Figures = field(default_factory=dict[str, float])
    samples: Sequence[Figures] = ()
    faults: Sequence[str] = ()

    def medians(self) -> dict[str, dict[str, float]]:
        """By case and name."""
        return {case: {name: median(run[name] for run in runs) for name in runs[0]} for case, runs in self.runs.items()}

    def as_json(self) -> dict[str, object]:
        """Medians, every run, when and where."""
        at = datetime.now(UTC).isoformat(timespec="seconds")
        machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.system()}
        told: dict[str, object] = {
            "metric": self.metric,
            "at": at,
            "machine": machine,
            "medians": self.medians(),
            "runs": self.runs,
        }
        more = {"ratios": self.ratios, "samples": self.samples, "faults": self.faults}
        return told | {name: value for name, value in more.items() if value}


def interleaved(metric: str, cases: Mapping[str, Case], repeats: int, patience_s: float) -> Report:
    """Each case once, then each again: what slows the machine for a while slows all of them.

    Before each run it waits up to `patience_s` for others on the machine to be quiet.
    """
    runs: dict[str, list[Figures]] = {case: [] for case in cases}
    for n in range(repeats):
        for name, case in cases.items():
            wait_for_quiet(patience_s)
            runs[name].append(case())
            print(f"  {metric} {n + 1}/{repeats} {name}: {told(runs[name][-1])}", file=sys.stderr, flush=True)
    return Report(metric, runs)


def told(figures: Figures) -> str:
    """One line."""
    return "  ".join(f"{name}={value:,.{0 if abs(value) >= 100 else 2}f}" for name, value in figures.items())


def show(report: Report) -> None:
    """A table on stdout, one row a figure and one column a case, or the other way round where that is narrower."""
    medians = report.medians()
    names = list(dict.fromkeys(name for figures in medians.values() for name in figures))
    runs = len(next(iter(report.runs.values())))
    print(f"\n{report.metric}: medians of {runs}" if runs > 1 else f"\n{report.metric}")
    if len(names) >= len(medians):
        _table(names, list(medians), lambda name, case: medians[case].get(name))
    else:
        _table(list(medians), names, lambda case, name: medians[case].get(name))
    for name, value in report.ratios.items():
        print(f"  {name}: {value:.2f}")


def _table(rows: Sequence[str], columns: Sequence[str], value: Callable[[str, str], float | None]) -> None:
    first = max(map(len, rows))
    widths = {column: max(14, len(column)) for column in columns}
    print(" " * first, *(f"{column:>{width}}" for column, width in widths.items()))
    for row in rows:
        print(f"{row:<{first}}", *(_cell(value(row, column), width) for column, width in widths.items()))


def _cell(value: float | None, width: int) -> str:
    return " " * width if value is None else f"{value:>{width},.{0 if abs(value) >= 100 else 2}f}"


def machine(spent: Spent) -> Figures:
    """How busy the machine was with other things."""
    return {"foreign_cores": spent.foreign_cores, "steal_cores": spent.steal_cores}


def cpu_per(spent: Spent, units: float, scale: float, unit: str) -> Figures:
    """CPU by role for each unit: `scale` 1e6 gives microseconds."""
    return {f"{role}_cpu_{unit}": seconds / units * scale for role, seconds in spent.cpu_s.items()}


def quantile(values: Sequence[float], q: float) -> float:
    """The q-quantile (nearest rank) of at least one value."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def latency_ms(seconds: Sequence[float]) -> Figures:
    """p50 and p99 in milliseconds."""
    return {"p50_ms": quantile(seconds, 0.5) * 1e3, "p99_ms": quantile(seconds, 0.99) * 1e3}


def dump(reports: Sequence[Report]) -> str:
    """All reports as one JSON document."""
    return json.dumps([report.as_json() for report in reports], indent=2) + "\n"
