"""How much memory the embedded redis-server may use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

MIB: Final = 1024 * 1024
SHARE: Final = 4
"""The embedded server gets a quarter of the machine: workers, API, dashboard and notebooks live on it too."""
LEAST: Final = 128 * MIB
MOST: Final = 8 * 1024 * MIB

_LIMITS: Final = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def machine_memory() -> int:
    """Bytes of memory that this machine, or the container around us, has."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([physical, *(limit for path in _LIMITS if (limit := _read(path)))])


def redis_maxmemory(total: int | None = None) -> int:
    """Bytes for `maxmemory`: a quarter of the machine, between 128 MB and 8 GB; new work is shed at 85 % of it."""
    share = (machine_memory() if total is None else total) // SHARE
    return max(LEAST, min(MOST, share))


def _read(path: Path) -> int | None:
    """A container's limit; None where there is none (`max`) or no such file."""
    try:
        return int(path.read_text("ascii"))
    except (OSError, ValueError):
        return None
