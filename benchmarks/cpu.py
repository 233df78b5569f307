"""CPU seconds of processes and of the machine, from /proc (Linux only).

On a shared machine the clock lies and CPU per unit does not, much: so every figure comes with both, and with what
others used meanwhile.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
_PROC: Final = Path("/proc")
_CPUCLOCK_SCHED: Final = 2
"""With a pid, the number of the clock that clock_getcpuclockid(3) answers: CPU of all threads, ended ones too."""
LOOK_S: Final = 0.5
QUIET_CORES: Final = 0.25


@dataclass(frozen=True, slots=True)
class Spent:
    """What a stretch of time cost: wall seconds, CPU seconds by role, and cores used or stolen by others."""

    wall_s: float
    cpu_s: Mapping[str, float]
    foreign_cores: float
    steal_cores: float


class Meter:
    """Started when it is built; `spent` may be asked again and again. `roles` are pids, each with its children."""

    def __init__(self, roles: Mapping[str, int]) -> None:
        self._roles = {**roles, "ours": os.getpid()}
        self._began = time.monotonic()
        self._before = self._read()

    def _read(self) -> dict[str, float]:
        family = _families()
        return {role: _tree_s(pid, family) for role, pid in self._roles.items()} | _machine_s()

    def spent(self) -> Spent:
        """Since the start."""
        wall_s = time.monotonic() - self._began
        now = self._read()
        used = {name: now[name] - before for name, before in self._before.items()}
        foreign = max(0.0, used.pop("busy") - used.pop("ours")) / wall_s
        return Spent(wall_s, used, foreign, used.pop("steal") / wall_s)


def wait_for_quiet(patience_s: float) -> None:
    """Returns when nothing has kept the machine busy for half a second, at the latest after `patience_s`."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        meter = Meter({})
        time.sleep(LOOK_S)
        if meter.spent().foreign_cores < QUIET_CORES:
            return


def descendants(pid: int) -> list[int]:
    """Children, and theirs."""
    family = _families()

    def below(parent: int) -> list[int]:
        return [one for child in family.get(parent, ()) for one in (child, *below(child))]

    return below(pid)


def _machine_s() -> dict[str, float]:
    words = (_PROC / "stat").read_text().split("\n", 1)[0].split()
    user, nice, system, _, _, irq, softirq, steal = (int(word) * _TICK_S for word in words[1:9])
    return {"busy": user + nice + system + irq + softirq, "steal": steal}


def _families() -> dict[int, list[int]]:
    """Children by parent."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    return children


def _tree_s(pid: int, family: Mapping[int, list[int]]) -> float:
    """A process, the children it has waited for, and those that live."""
    waited_for = sum(int(field) for field in _stat(pid)[13:15]) * _TICK_S
    return _own_s(pid) + waited_for + sum(_tree_s(child, family) for child in family.get(pid, ()))


def _own_s(pid: int) -> float:
    """By the process's own clock: /proc counts in hundredths of a second, in which a short run shows as nothing."""
    try:
        return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)
    except OSError:
        return sum(int(field) for field in _stat(pid)[11:13]) * _TICK_S


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat from the state on; empty when it is gone."""
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
