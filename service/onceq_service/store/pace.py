"""How long a lane's queue is and how fast it goes: bounded reads, for the expected start of a new job."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

from onceq.wire import BANDS, Band
from onceq_service.store._pipe import Pipe
from onceq_service.store.jobs import UNKNOWN_MS
from onceq_service.store.keys import Keys
from onceq_service.store.stats import Stats

MOST_TENANTS: Final = 100
"""Tenants whose waiting jobs are counted for a lane and band; where more wait, the number is not told."""
MINUTE_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class Pace:
    """A lane as it was when it was looked at, at `at_ms` of Redis's time.

    `ahead`: its waiting jobs of a band and of those before it, None where there are too many to count; those that are
    delayed are not among them.
    `per_s`: jobs that ended in the last minute, a second; None where none did. `closed_until_ms`: when it starts jobs
    of a band again, None where nobody knows; a band that is not in it is open.
    """

    at_ms: int
    ahead: Mapping[Band, int | None]
    per_s: float | None
    closed_until_ms: Mapping[Band, int | None]

    def start_ms(self, band: Band, free: int) -> int | None:
        """When a job that joins the queue now may start; `free`: how many jobs workers could take at once."""
        ahead, opens_ms = self.ahead[band], self.closed_until_ms.get(band, self.at_ms)
        if ahead is None or opens_ms is None:
            return None
        if ahead < free:
            return opens_ms
        return None if self.per_s is None else opens_ms + round((ahead + 1) / self.per_s * 1000)


class Paces:
    """Reads them."""

    def __init__(self, pipe: Pipe, keys: Keys) -> None:
        self._pipe, self._keys, self._stats = pipe, keys, Stats(pipe, keys)

    async def get(self, lane: str) -> Pace:
        """The lane now; empty and open when nothing is known of it."""
        now_ms = await self._stats.now_ms()
        waiting, closed, per_s, paused = await asyncio.gather(
            asyncio.gather(*(self._waiting(lane, band) for band in BANDS)),
            asyncio.gather(*(self._closed_until_ms(lane, band) for band in BANDS)),
            self._per_s(lane, now_ms),
            self._paused(lane),
        )
        known: dict[Band, int | None] = dict.fromkeys(paused)
        for band, ms in zip(BANDS, closed, strict=True):
            if ms > now_ms:
                known.setdefault(band, ms if ms < UNKNOWN_MS else None)
        return Pace(now_ms, _ahead(waiting), per_s, known)

    async def _waiting(self, lane: str, band: Band) -> int | None:
        tenants = cast(
            "list[bytes]", await self._pipe.command("ZRANGE", self._keys("fair", band, lane), 0, MOST_TENANTS)
        )
        if len(tenants) > MOST_TENANTS:
            return None
        names = [self._keys("wait", band, lane, tenant.decode()) for tenant in tenants]
        return sum(await asyncio.gather(*(self._pipe.command("ZCARD", name) for name in names)))

    async def _closed_until_ms(self, lane: str, band: Band) -> int:
        """Until its brake ends, or what it is put aside for; 0 where it is open."""
        brake, blocked = await asyncio.gather(
            self._pipe.command("HGET", self._keys("lane", lane), "brake_ms"),
            self._pipe.command("ZSCORE", self._keys("blocked"), f"{band}|{lane}"),
        )
        return max(int(cast("bytes | None", brake) or 0), int(float(cast("bytes | None", blocked) or 0)))

    async def _paused(self, lane: str) -> list[Band]:
        """Bands in which the lane starts nothing until somebody says so."""
        lane_paused, *bands = await asyncio.gather(
            self._pipe.command("HEXISTS", self._keys("lane", lane), "paused"),
            *(self._pipe.command("HEXISTS", self._keys("turns"), f"paused:{band}") for band in BANDS),
        )
        return [band for band, paused in zip(BANDS, bands, strict=True) if paused or lane_paused]

    async def _per_s(self, lane: str, now_ms: int) -> float | None:
        """Over the last sixty seconds: this minute, and the share of the one before that is still within them."""
        minute, into = divmod(now_ms, MINUTE_MS)
        counts = await asyncio.gather(
            *(self._pipe.command("GET", self._keys("pace", lane, m)) for m in (minute, minute - 1))
        )
        this, last = (int(cast("bytes | None", count) or 0) for count in counts)
        ended = this + last * (1 - into / MINUTE_MS)
        return ended * 1000 / MINUTE_MS if ended else None


def _ahead(waiting: Sequence[int | None]) -> Mapping[Band, int | None]:
    ahead: dict[Band, int | None] = {}
    before: int | None = 0
    for band, count in zip(BANDS, waiting, strict=True):
        ahead[band] = before = None if before is None or count is None else before + count
    return ahead
