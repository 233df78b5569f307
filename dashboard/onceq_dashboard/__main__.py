"""`python -m onceq_dashboard --host 127.0.0.1 --port 8501`: serve the dashboard until a signal ends it.

Reads ONCEQ_BASE_URL and ONCEQ_API_KEY, else the nearest `.onceq/`; ONCEQ_DASHBOARD_SECRETS names the secrets file of
the sign-in, ONCEQ_DASHBOARD_HOSTS the public names that a proxy passes on. With `--open` nobody at this machine is
asked for a key. `/_stcore/health` answers once it is ready.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from onceq_dashboard.options import OPEN, flags, problem

APP = Path(__file__).with_name("server.py")


def main(argv: Sequence[str] | None = None) -> int:
    """Serve; the exit code. 1 when a setting can't be used, 2 when the port can't be had."""
    args = _parser().parse_args(argv)
    wrong, taken = problem(), _taken(args.host, args.port)
    if wrong or taken:
        print(f"onceq dashboard: {wrong or taken}", file=sys.stderr)  # noqa: T201 - the one sentence of a command
        return 1 if wrong else 2
    os.environ[OPEN] = "1" if args.open else ""
    from streamlit.web import cli  # after what may be wrong: seconds of imports

    import_module("onceq_dashboard.charts")  # seconds of imports, before the first person waits for them
    cli.main(["run", str(APP), *flags(args.host, args.port)], standalone_mode=False)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="onceq dashboard", description="Serve onceq's dashboard.")
    parser.add_argument("--host", default=os.environ.get("ONCEQ_DASHBOARD_HOST", "127.0.0.1"))
    parser.add_argument("--port", type=int, default=int(os.environ.get("ONCEQ_DASHBOARD_PORT", "8501")))
    parser.add_argument("--open", action="store_true", help="ask nobody at this machine for a key")
    return parser


def _taken(host: str, port: int) -> str | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as exc:
            return (
                f"can't listen on {host}:{port} ({exc.strerror}): choose another with ONCEQ_DASHBOARD_PORT or --port."
            )
    return None


if __name__ == "__main__":
    sys.exit(main())
