"""`python -m onceq_service.simulator`: prints `{"url": ...}` when it answers, stops on SIGINT or SIGTERM."""

from __future__ import annotations

import argparse
import inspect
import json
import re
import signal
import sys
from pathlib import Path

from onceq_service.simulator.app import __doc__ as routes
from onceq_service.simulator.ask import RefusedError
from onceq_service.simulator.faults import __doc__ as faults
from onceq_service.simulator.faults import read_fault
from onceq_service.simulator.knobs import Knobs, to_knobs
from onceq_service.simulator.server import SimulatorServer

NOT_FLAGS = ("times",)
"""Settings that make sense for one prompt only."""


def main(arguments: list[str] | None = None) -> int:
    """Run until told to stop; returns the exit code."""
    parser = make_parser()
    options = vars(parser.parse_args(arguments))
    host, port, journal = options.pop("host"), options.pop("port"), options.pop("journal")
    try:
        knobs = to_knobs({name: value for name, value in options.items() if value is not None})
        read_fault(knobs)
        server = SimulatorServer(knobs, host=host, port=port, journal=journal)
    except (RefusedError, OSError) as exc:
        parser.exit(2, f"simulator: {exc}\n")
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda _number, _frame: server.stop())
    server.run(on_ready=lambda: _announce(server.url))
    return 0


def make_parser() -> argparse.ArgumentParser:
    """Host, port, journal, and one flag for each knob."""
    parser = argparse.ArgumentParser(
        prog="python -m onceq_service.simulator",
        description="A stand-in for OpenAI, Anthropic and Bedrock.",
        epilog=f"{faults}\n{routes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (default)")
    parser.add_argument("--journal", type=Path, help="append one JSON line per request and outcome to this file")
    for name, meaning in knob_meanings().items():
        parser.add_argument(f"--{name.replace('_', '-')}", dest=name, help=meaning)
    return parser


def knob_meanings() -> dict[str, str]:
    """Each knob that can be a flag, with its line of the docstring."""
    lines = re.findall(r"^(\w+) {2,}(.+)$", inspect.getdoc(Knobs) or "", re.MULTILINE)
    return {name: meaning for name, meaning in lines if name not in NOT_FLAGS}


def _announce(url: str) -> None:
    sys.stdout.write(json.dumps({"url": url}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
