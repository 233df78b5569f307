"""`python -m benchmarks posts ttft ... [--quick] [--json FILE]`; when no metric is named, all but check and soak."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from benchmarks.figures import Report, dump, show
from benchmarks.metrics import ASKED, METRICS, QUICK, Effort


def main() -> int:
    """Measures, prints a table for each metric; returns 1 when something is not as it must be."""
    signal.signal(signal.SIGTERM, _stop)
    options = _parser().parse_args()
    effort = QUICK if options.quick else Effort()
    reports = [(METRICS | ASKED)[name](effort) for name in options.metric or METRICS]
    if options.json is not None:
        options.json.write_text(dump(reports), "utf-8")
    return tell(reports)


def tell(reports: Sequence[Report]) -> int:
    """Prints the tables, and behind them what is not as it must be; returns 1 where there is such a thing."""
    for report in reports:
        show(report)
    faults = [f"{report.metric}: {fault}" for report in reports for fault in report.faults]
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


def _stop(number: int, _frame: FrameType | None) -> None:
    """Leaves as an exception would: the processes that were started end with this one."""
    sys.exit(128 + number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measures onceq on processes of its own.")
    known = (*METRICS, *ASKED)
    parser.add_argument(
        "metric",
        nargs="*",
        metavar="metric",
        help=f"any of {', '.join(known)}; by default all but {' and '.join(ASKED)}",
    )
    parser.add_argument("--quick", action="store_true", help="one short run of each: does it work, not how fast")
    parser.add_argument("--json", type=Path, help="write every run to this file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
