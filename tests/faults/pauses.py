"""When a run could not go on because the machine kept one of its processes waiting: no bound on time counts that.

A process that does nothing else sees it when it is late itself: then all of the machine stood still. On Linux it also
sees how long each process of the tests waited for a CPU, and which of them waits for the disk. One that is busy, asleep
or stopped is none of that: its time counts, so that a defect of ours, or a fault, is no excuse for itself.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
TICK_S = 0.02
NOISE_S = 0.005
"""What somebody waits in each tick on a machine that works."""
LONG_S = 0.1
"""The least pause that is an excuse where a bound is seconds: shorter ones are many, and it has room for them."""
TICKS_A_SEARCH = 25
"""Processes come and go more slowly than they wait."""


class Pause(NamedTuple):
    """From when to when, Unix time in seconds."""

    began: float
    ended: float


class Waits(NamedTuple):
    """Of one process: how long it has waited for a CPU in its life, and whether it waits for the disk."""

    cpu_s: float
    disk: bool


def lost_s(pauses: Iterable[Pause], since: float, until: float, least_s: float = 0.0) -> float:
    """How much of the time between was lost in pauses of that length."""
    within = (max(0.0, min(p.ended, until) - max(p.began, since)) for p in _joined(pauses) if lasts_s(p) >= least_s)
    return sum(within)


def lasts_s(pause: Pause) -> float:
    """How long it is."""
    return pause.ended - pause.began


def _joined(pauses: Iterable[Pause]) -> list[Pause]:
    """Those of several processes at once, or one right behind the other, as one."""
    found: list[Pause] = []
    for pause in sorted(pauses):
        if found and pause.began <= found[-1].ended + NOISE_S:
            found[-1] = Pause(found[-1].began, max(found[-1].ended, pause.ended))
        else:
            found.append(pause)
    return found


class Watch:
    """Has a process of its own look, so that it sees all of ours; it ends with us."""

    def __init__(self, folder: Path) -> None:
        self._seen = folder / "pauses"

    def start(self) -> subprocess.Popen[bytes]:
        """From now on; ends when its standard input does."""
        command = [sys.executable, "-m", "tests.faults.pauses"]
        with self._seen.open("ab") as out:
            return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=out, start_new_session=True)

    def pauses(self, since: float = 0.0) -> list[Pause]:
        """What it has seen from then on, in order."""
        lines = self._seen.read_text("ascii").rpartition("\n")[0].splitlines()
        found = [Pause(*map(float, line.split())) for line in lines]
        return sorted(pause for pause in found if pause.ended > since)

    def worked_s(self, since: float, until: float, least_s: float = LONG_S) -> float:
        """How much of the time between all could run, when pauses of that length are looked at."""
        return until - since - lost_s(self.pauses(since), since, until, least_s)


def look(root: int) -> None:
    """Prints the pauses of a process and its descendants until standard input ends."""
    before, seen, pids = time.time(), dict[int, Waits](), list[int]()
    for turn in count():
        if select.select([sys.stdin], [], [], TICK_S)[0]:
            return
        now = time.time()
        if turn % TICKS_A_SEARCH == 0:
            pids = _family(root)
        last, seen = seen, {pid: waits for pid in pids if (waits := _waits(pid)) is not None}
        waited = (_waited_s(last[pid], waits, now - before) for pid, waits in seen.items() if pid in last)
        lost = max(now - before - TICK_S, *waited, 0.0)
        if lost > NOISE_S:
            print(now - lost, now, flush=True)
        before = now


def _waited_s(was: Waits, now: Waits, passed_s: float) -> float:
    """A wait for a CPU is in the account when it is over; one for the disk counts when two looks see it."""
    return max(now.cpu_s - was.cpu_s, passed_s if was.disk and now.disk else 0.0)


def _family(root: int) -> list[int]:
    """A process and its descendants without this one; none where there is no /proc."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        if (stat := _stat(int(entry.name))) is not None:
            children.setdefault(int(stat[1]), []).append(int(entry.name))
    found = [root] if children else []
    for pid in found:  # it grows
        found += children.get(pid, [])
    return [pid for pid in found if pid != os.getpid()]


def _stat(pid: int) -> list[bytes] | None:
    """State, parent and so on; None when it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None


def _waits(pid: int) -> Waits | None:
    """None when it has ended, or the kernel keeps no such account."""
    stat = _stat(pid)
    try:
        cpu_ns = int(Path(f"/proc/{pid}/schedstat").read_bytes().split()[1])
    except OSError:
        return None
    return Waits(cpu_ns / 1e9, stat is not None and stat[0] == b"D")


if __name__ == "__main__":
    look(os.getppid())
