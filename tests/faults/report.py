"""The figures of each run, and the table of them that is printed at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.faults.checker import extra_calls, judge, recoveries
from tests.faults.run import Run


@dataclass(frozen=True, slots=True)
class Figures:
    """One line of the table. `recovery_s` is the slowest; None when no worker was lost."""

    name: str
    jobs: int
    posts: int
    calls: int
    refused: int
    extra: int
    readers: int
    hops: int
    recovery_s: float | None
    took_s: float
    findings: Sequence[str]


TABLE: list[Figures] = []
"""In the order of the runs; filled by figures_of, printed by conftest.py."""


def figures_of(name: str, run: Run, took_s: float) -> Figures:
    """Judges a run and keeps its line."""
    readings = run.records("read", "invoke")
    readers = {(r.who, r.job) for r in readings}
    figures = Figures(
        name=name, jobs=len(run.jobs), posts=len(run.records("post", "invoke")),
        calls=sum(row.billed for row in run.meter), refused=sum(not row.billed for row in run.meter),
        extra=extra_calls(run), readers=len(readers), hops=len(readings) - len(readers),
        recovery_s=max((s for _, s in recoveries(run)), default=None), took_s=took_s, findings=judge(run),
    )  # fmt: skip
    TABLE.append(figures)
    return figures


HEAD = ("fault", "jobs", "posts", "calls", "refused", "extra", "readers", "hops", "recovery", "took", "wrong")


def lines(table: Sequence[Figures]) -> list[str]:
    """The table as text: `extra` are calls paid and lost with a worker, `wrong` what the checker found."""
    cells = [HEAD, *(_cells(f) for f in table)]
    widths = [max(len(row[n]) for row in cells) for n in range(len(HEAD))]
    return ["  ".join(_padded(row, widths)) for row in cells]


def _padded(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    first, *rest = row
    return [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))]


def _cells(f: Figures) -> tuple[str, ...]:
    counts = (f.jobs, f.posts, f.calls, f.refused, f.extra, f.readers, f.hops)
    recovery = "-" if f.recovery_s is None else f"{f.recovery_s:.2f} s"
    return (f.name, *map(str, counts), recovery, f"{f.took_s:.1f} s", str(len(f.findings)))
