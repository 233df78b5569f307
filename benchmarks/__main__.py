"""`python -m benchmarks posts ttft ... [--quick] [--json FILE]`; with none named, all but check, soak and peers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.beside import PEERS, chart
from benchmarks.figures import Report, dump, show
from benchmarks.metrics import ASKED, METRICS, QUICK, Effort
from benchmarks.supervisor import supervised


def main() -> int:
    """Measures, prints a table for each metric; returns 1 when something is not as it must be."""
    parser = _parser()
    options = parser.parse_args()
    if options.chart and PEERS not in options.metric:
        parser.error(f"--chart draws what {PEERS} has measured: name {PEERS} among the metrics")
    effort = QUICK if options.quick else Effort()
    effort = replace(effort, repeats=options.rounds or effort.repeats)
    return supervised(partial(measure, options.metric or list(METRICS), effort, options.json, options.chart))


def measure(names: Sequence[str], effort: Effort, file: Path | None, picture: Path | None) -> int:
    """Runs the metrics one after another; their runs go into a file too, what stood beside peers into a picture."""
    reports = [(METRICS | ASKED)[name](effort) for name in names]
    if file is not None:
        file.write_text(dump(reports), "utf-8")
    for report in reports:
        if picture is not None and report.metric == PEERS:
            picture.write_text(chart(report).svg(), "utf-8")
    return tell(reports)


def tell(reports: Sequence[Report]) -> int:
    """Prints the tables, and behind them what is not as it must be; returns 1 where there is such a thing."""
    for report in reports:
        show(report)
    faults = [f"{report.metric}: {fault}" for report in reports for fault in report.faults]
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measures onceq on processes of its own.")
    known = (*METRICS, *ASKED)
    parser.add_argument(
        "metric",
        nargs="*",
        metavar="metric",
        help=f"any of {', '.join(known)}; by default all but the last {len(ASKED)}",
    )
    parser.add_argument("--quick", action="store_true", help="one short run of each: does it work, not how fast")
    parser.add_argument("--rounds", type=_count, help="runs of each case, of which the medians are told (3)")
    parser.add_argument("--json", type=Path, help="write every run to this file")
    parser.add_argument("--chart", type=Path, help=f"draw what {PEERS} has measured, as an SVG")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
