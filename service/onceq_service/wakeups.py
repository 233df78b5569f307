"""Which sockets wake an event loop at once, while all others gather what comes: as a network card moderates interrupts.

Why: a worker that sleeps and wakes for each token pays more for the waking than for the token, and a token that was
read early waits for the next flush anyway (figures in benchmarks/README.md). Linux only; elsewhere nothing waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
from typing import Final
from weakref import WeakKeyDictionary


class Wakeups:
    """The wake-ups of one event loop; used in its thread only."""

    def __init__(self) -> None:
        self._urgent = select.epoll() if hasattr(select, "epoll") else None

    @property
    def can_pause(self) -> bool:
        """Whether this system has what it needs."""
        return self._urgent is not None

    def watch(self, transport: asyncio.BaseTransport) -> bool:
        """What can be read from this socket ends a pause, until `unwatch` or its close. False where nothing can."""
        if self._urgent is None:
            return False
        try:
            self._urgent.register(_descriptor(transport), select.EPOLLIN)
        except FileExistsError:
            pass
        except (OSError, ValueError):  # it has just been closed: whoever uses it hears of that by other ways
            return False
        return True

    def unwatch(self, transport: asyncio.BaseTransport) -> None:
        """What can be read from it may wait from now on."""
        if self._urgent is not None:
            with contextlib.suppress(OSError, ValueError):  # it is closed, or was never watched
                self._urgent.unregister(_descriptor(transport))

    def pause(self, longest_s: float) -> bool:
        """Stops the whole loop until a watched one has something to read; whether one has. At once where none can."""
        return self._urgent is not None and bool(self._urgent.poll(longest_s, 1))


BY_LOOP: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, Wakeups]] = WeakKeyDictionary()
"""By loop; see `wakeups`."""


def wakeups() -> Wakeups:
    """The wake-ups of the running loop."""
    loop = asyncio.get_running_loop()
    found = BY_LOOP.get(loop)
    if found is None:
        found = BY_LOOP[loop] = Wakeups()
    return found


def _descriptor(transport: asyncio.BaseTransport) -> int:
    return transport.get_extra_info("socket").fileno()
