"""`python -m benchmarks posts ttft relay sustained [--quick] [--json FILE]`; all metrics when none is named."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType

from benchmarks.figures import dump, show
from benchmarks.metrics import METRICS, QUICK, Effort


def main() -> int:
    """Measures, prints a table for each metric; returns the exit code."""
    signal.signal(signal.SIGTERM, _stop)
    options = _parser().parse_args()
    effort = QUICK if options.quick else Effort()
    reports = [METRICS[name](effort) for name in options.metric or METRICS]
    for report in reports:
        show(report)
    if options.json is not None:
        options.json.write_text(dump(reports), "utf-8")
    return 0


def _stop(number: int, _frame: FrameType | None) -> None:
    """Leaves as an exception would: the processes that were started end with this one."""
    sys.exit(128 + number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measures onceq on processes of its own.")
    parser.add_argument("metric", nargs="*", metavar="metric", help=f"any of {', '.join(METRICS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="one short run of each: does it work, not how fast")
    parser.add_argument("--json", type=Path, help="write every run to this file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
