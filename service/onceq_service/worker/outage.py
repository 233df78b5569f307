"""Says once that Redis is away, and once that it is back, for all that a worker process asks of it."""

from __future__ import annotations

import time
from typing import Final

import structlog

from onceq_service.store import StoreError, StoreUnavailable

log = structlog.get_logger("onceq.worker")

SETTLED_S: Final = 2.0
"""Nothing has failed for so long: Redis is back. Whoever waits for it asks at least each second."""


class Outage:
    """Told by every caller of the store that tries again; from any thread."""

    def __init__(self) -> None:
        self._said: set[type[StoreError]] = set()
        self._began = self._failed = 0.0

    def away(self, why: StoreError) -> None:
        """A caller had no answer, or one that it does not take for an end, and will ask again."""
        self._failed = time.monotonic()
        if type(why) in self._said:
            return
        self._began = self._began if self._said else self._failed
        self._said.add(type(why))
        away = isinstance(why, StoreUnavailable)
        log.warning("Redis is away" if away else "Redis does not take what it is given", why=str(why))

    def back(self) -> None:
        """A caller had its answer."""
        if self._said and time.monotonic() - self._failed > SETTLED_S:
            self._said.clear()
            log.warning("Redis is back", away_s=round(time.monotonic() - self._began, 1))


REDIS: Final = Outage()
"""Of this process."""
