"""`onceq`, and `python -m onceq_service`."""

from __future__ import annotations

import sys


def main() -> None:
    """The command line; says in a sentence what is missing when onceq was installed without its service."""
    try:
        from onceq_service.cli import run
    except ModuleNotFoundError as exc:
        missing = exc.name or "a package"
        if missing.startswith("onceq"):
            raise
        sys.stderr.write(f"onceq: {missing} is not installed; the service needs it: pip install 'onceq[service]'\n")
        sys.exit(1)
    sys.exit(run())


if __name__ == "__main__":
    main()
