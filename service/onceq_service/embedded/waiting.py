"""Waiting for something to come true, without missing a signal that says stop."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Final, Self

FIRST_PAUSE_S: Final = 0.005
LONGEST_PAUSE_S: Final = 0.1


class StopSignal:
    """SIGINT, SIGTERM and SIGHUP as a fact that can be waited for: `count` says how many have come.

    A wakeup pipe, not an Event: an Event set in a handler can block on the lock that its waiter holds.
    """

    SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self.count = 0

    def wait(self, timeout_s: float) -> bool:
        """Sleeps, at most that long; whether to stop."""
        if not self.count:
            select.select([self._read], [], [], timeout_s)
        return self.count > 0

    def __enter__(self) -> Self:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        heard = [n for n in self.SIGNALS if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]  # nohup
        self._before = {number: signal.signal(number, self._note) for number in heard}
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._read)
        os.close(self._write)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1
        os.write(self._write, b"!")


def wait_until(done: Callable[[], bool], timeout_s: float) -> bool:
    """Asks every 5 ms at first, then less often; whether it came true in time."""
    deadline, pause_s = time.monotonic() + timeout_s, FIRST_PAUSE_S
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, LONGEST_PAUSE_S)
    return True
