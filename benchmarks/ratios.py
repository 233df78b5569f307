"""Ratios of figures of one interleaved run, and bounds on them: they hold on a noisy machine, where times do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from benchmarks.figures import Figures, Report


@dataclass(frozen=True, slots=True)
class Part:
    """The sum of some figures of one case: CPU of API, Redis and worker, for instance."""

    case: str
    figures: Sequence[str]

    def of(self, run: Figures) -> float:
        """In one run."""
        return sum(run[name] for name in self.figures)


@dataclass(frozen=True, slots=True)
class Ratio:
    """A part over another of the same report."""

    name: str
    of: Part
    to: Part

    def measured(self, report: Report) -> float:
        """The median of the rounds, each of which has had both parts one after the other; 0 over 0 is 1."""
        rounds = zip(report.runs[self.of.case], report.runs[self.to.case], strict=True)
        return median(_over(self.of.of(one), self.to.of(other)) for one, other in rounds)


def _over(value: float, floor: float) -> float:
    if floor:
        return value / floor
    return 1.0 if not value else float("inf")


def told_ratios(report: Report, ratios: Sequence[Ratio]) -> dict[str, float]:
    """By name."""
    return {ratio.name: ratio.measured(report) for ratio in ratios}


@dataclass(frozen=True, slots=True)
class Bound:
    """What a ratio may be at most, and why so much."""

    ratio: Ratio
    at_most: float
    why: str

    def fault(self, report: Report) -> str | None:
        """A sentence that names the ratio, its bound and what was measured; None when it holds."""
        measured = self.ratio.measured(report)
        if measured <= self.at_most:
            return None
        medians, of, to = report.medians(), self.ratio.of, self.ratio.to
        return (
            f"{self.ratio.name}: {measured:.2f}, and at most {self.at_most:g} is right ({self.why}). Measured were "
            f"{of.of(medians[of.case]):,.4g} ({of.case}: {' + '.join(of.figures)}) against "
            f"{to.of(medians[to.case]):,.4g} ({to.case}: {' + '.join(to.figures)})."
        )


def judged(report: Report, bounds: Sequence[Bound]) -> Report:
    """The report with each bound's ratio, and a sentence for each that does not hold."""
    found = [fault for bound in bounds if (fault := bound.fault(report))]
    return replace(report, ratios=told_ratios(report, [bound.ratio for bound in bounds]), faults=found)
