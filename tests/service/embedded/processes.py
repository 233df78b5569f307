"""Who is whose child, by /proc."""

from __future__ import annotations

from pathlib import Path


def children(pid: int) -> list[int]:
    """Processes whose parent this is."""
    found = Path("/proc").glob("[0-9]*/stat")
    return [int(stat.parent.name) for stat in found if _fields(stat)[1:2] == [str(pid)]]


def descendants(pid: int) -> list[int]:
    """Children, and theirs."""
    return [p for child in children(pid) for p in (child, *descendants(child))]


def alive(pid: int) -> bool:
    """Whether the process runs; one that is dead but not yet reaped does not."""
    fields = _fields(Path(f"/proc/{pid}/stat"))
    return bool(fields) and fields[0] != "Z"


def _fields(stat: Path) -> list[str]:
    """State, parent and so on; empty when it has gone."""
    try:
        return stat.read_text().rpartition(")")[2].split()
    except OSError:
        return []
