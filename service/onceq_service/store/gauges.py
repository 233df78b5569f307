"""What an operator watches: the whole queue as it is now, and what it has done so far, read for one scrape.

Everything is counted by the scripts where it happens, so any process reads the same, and reads a bounded amount.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast, get_args

from onceq.wire import Band, BudgetStatus, LaneInfo, WorkerInfo
from onceq_service.store._pipe import Pipe
from onceq_service.store.budgets import Budgets, unpacked
from onceq_service.store.keys import Keys
from onceq_service.store.lanes import Lanes
from onceq_service.store.stats import Stats
from onceq_service.store.views import fields_of

MOST_BUDGETS: Final = 100
"""Those that a scrape shows."""
API_TTL_MS: Final = 10_000
"""An API process that has said nothing for this long has ended; it speaks every two seconds."""


@dataclass(frozen=True, slots=True)
class Series:
    """What a counter is about."""

    provider: str
    band: str
    simulated: bool


@dataclass(frozen=True, slots=True)
class Waiting:
    """A band's queued jobs; `oldest_s`: for how long one of them could have started, 0 when none waits."""

    jobs: int
    oldest_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The whole queue at one moment. `counters`: sums by their names in the rollups, which never go down."""

    waiting: Mapping[Band, Waiting]
    running: int
    delayed: int
    dead_letters: int
    lanes: list[LaneInfo]
    paused_bands: list[Band]
    workers: list[WorkerInfo]
    streams: list[int]
    """Open event streams, one number an API process."""
    counters: Mapping[Series, Mapping[str, int]]
    budgets: list[BudgetStatus]
    """At most MOST_BUDGETS, by tenant and name."""
    at_ms: int


class Gauges:
    """Reads them."""

    def __init__(self, pipe: Pipe, keys: Keys) -> None:
        self._pipe, self._keys = pipe, keys
        self._stats, self._lanes, self._budgets = Stats(pipe, keys), Lanes(pipe, keys), Budgets(pipe, keys)

    async def read(self, result_ttl_s: int) -> Reading:
        """Everything; dead letters are those whose results are still there."""
        now_ms = await self._stats.now_ms()
        names = cast("tuple[Band, ...]", get_args(Band))
        bands = await asyncio.gather(*(self._waiting(band, now_ms) for band in names))
        lanes, paused, workers = await asyncio.gather(
            self._lanes.list(), self._lanes.paused_bands(), self._stats.workers()
        )
        running, delayed, dead, streams, counters = await asyncio.gather(
            self._stats.running(), self._stats.delayed(), self._dead(now_ms - result_ttl_s * 1000),
            self._streams(now_ms), self._counters(),
        )  # fmt: skip
        waiting, budgets = dict(zip(names, bands, strict=True)), await self._budgets_now(now_ms)
        return Reading(
            waiting=waiting, running=running, delayed=delayed, dead_letters=dead, lanes=lanes, paused_bands=paused,
            workers=workers, streams=streams, counters=counters, budgets=budgets, at_ms=now_ms,
        )  # fmt: skip

    async def say_api(self, process: str, streams: int) -> None:
        """Says that an API process lives, and how many event streams it has open; forgets those that have ended."""
        key, now_ms = self._keys("apis"), await self._stats.now_ms()
        await self._pipe.command("HSET", key, process, f"{streams} {now_ms}")
        await self._pipe.command("EXPIRE", key, 60)
        said = fields_of(await self._pipe.command("HGETALL", key))
        if gone := [name for name, word in said.items() if not _lives(word, now_ms)]:
            await self._pipe.command("HDEL", key, *gone)

    async def forget_api(self, process: str) -> None:
        """Says that an API process has ended."""
        await self._pipe.command("HDEL", self._keys("apis"), process)

    async def _budgets_now(self, now_ms: int) -> list[BudgetStatus]:
        found = sorted(map(unpacked, (await self._budgets.made()).values()), key=lambda b: (b.tenant, b.name))
        return await self._budgets.status(found[:MOST_BUDGETS], now_ms)

    async def _waiting(self, band: Band, now_ms: int) -> Waiting:
        key = self._keys("queued", band)
        jobs, oldest = await asyncio.gather(
            self._pipe.command("ZCARD", key), self._pipe.command("ZRANGE", key, 0, 0, "WITHSCORES")
        )
        row = cast("list[bytes]", oldest)
        return Waiting(int(cast("int", jobs)), max(0.0, (now_ms - float(row[1])) / 1000) if row else 0.0)

    async def _dead(self, since_ms: int) -> int:
        return int(await self._pipe.command("ZCOUNT", self._keys("buried"), since_ms, "+inf"))

    async def _streams(self, now_ms: int) -> list[int]:
        said = fields_of(await self._pipe.command("HGETALL", self._keys("apis")))
        return [int(word.split()[0]) for word in said.values() if _lives(word, now_ms)]

    async def _counters(self) -> dict[Series, dict[str, int]]:
        found: dict[Series, dict[str, int]] = {}
        for field, value in fields_of(await self._pipe.command("HGETALL", self._keys("counters"))).items():
            provider, band, simulated, name = field.split("|", 3)
            found.setdefault(Series(provider, band, simulated == "1"), {})[name] = int(value)
        return found


def _lives(word: bytes, now_ms: int) -> bool:
    return now_ms - int(word.split()[1]) < API_TTL_MS
