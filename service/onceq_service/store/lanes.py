"""The lanes as people see them: limits, brakes, what runs; and the switch that pauses one, or a band."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Final, Literal, cast

from onceq.wire import Band, LaneInfo
from onceq_service.store import scripts
from onceq_service.store._pipe import Pipe
from onceq_service.store.keys import Keys
from onceq_service.store.views import Fields, at, fields_of

Word = Literal["pause", "resume"]
WINDOW_S: Final = 61
"""How far back a lane counts what it started, in seconds; WINDOW in lua/_lanes.lua."""
_LIMITS = ("requests_per_minute", "input_tokens_per_minute", "output_tokens_per_minute", "concurrency")


class Lanes:
    """The lanes of a queue that have started a job lately, and the bands."""

    def __init__(self, pipe: Pipe, keys: Keys) -> None:
        self._pipe, self._keys = pipe, keys

    async def list(self) -> list[LaneInfo]:
        """Newest start first, at most 1,000."""
        names = cast("list[bytes]", await self._pipe.command("ZRANGE", self._keys("lanes"), 0, -1, "REV"))
        return await asyncio.gather(*(self.get(name.decode()) for name in names))

    async def get(self, lane: str) -> LaneInfo:
        """One lane; without limits or trouble when nothing is known of it."""
        fields, recent, now = await asyncio.gather(
            self._pipe.command("HGETALL", self._keys("lane", lane)),
            self._pipe.command("HGETALL", self._keys("window", lane)),
            self._pipe.command("TIME"),
        )
        return _info(lane, fields_of(fields), _last_minute(fields_of(recent), int(now[0])))

    async def paused_bands(self) -> list[Band]:
        """Bands that start nothing now."""
        fields = fields_of(await self._pipe.command("HGETALL", self._keys("turns")))
        return [cast("Band", name.partition(":")[2]) for name in sorted(fields) if name.startswith("paused:")]

    async def set_weights(self, weights: Mapping[str, float]) -> None:
        """Makes these the tenants' weights; those left out weigh 1."""
        key = self._keys("weights")
        known = fields_of(await self._pipe.command("HGETALL", key))
        wanted = {tenant: str(weight).encode() for tenant, weight in weights.items()}
        changed = [x for tenant, weight in wanted.items() if known.get(tenant) != weight for x in (tenant, weight)]
        if changed:
            await self._pipe.command("HSET", key, *changed)
        if gone := known.keys() - wanted.keys():
            await self._pipe.command("HDEL", key, *gone)

    async def learn(self, lane: str, limits: str, *, used: int = 0, brake_s: float = 0) -> None:
        """Takes over what the provider says: its limits (as `LaneLimits.packed()`), and how long nothing is left.

        `used` are the minute's requests so far by the provider's count; they matter where nobody has counted yet.
        """
        await self._pipe.script(scripts.LEARN, self._keys.root, [lane, limits, used, round(brake_s * 1000)])

    async def switch_lane(self, lane: str, word: Word) -> None:
        """Pauses a lane; what runs goes on. Or resumes it: that lifts a brake and closes the breaker, too."""
        await self._pipe.script(scripts.PAUSE, self._keys.root, ["lane", lane, word])

    async def switch_band(self, band: Band, word: Word) -> None:
        """Pauses or resumes a band; what runs goes on."""
        await self._pipe.script(scripts.PAUSE, self._keys.root, ["band", band, word])


def _last_minute(seconds: Fields, now_s: int) -> Counter[str]:
    """What was started in the window by now: its sums are those of the last claim, which may be a while ago."""
    counts = Counter[str]()
    for name, count in seconds.items():
        if name[0] in "rio" and name[1:].isdigit() and int(name[1:]) > now_s - WINDOW_S:
            counts[name[0]] += int(count)
    return counts


def _info(lane: str, f: Fields, recent: Counter[str]) -> LaneInfo:
    counted = "running" in f
    return LaneInfo(
        lane=lane,
        paused="paused" in f,
        braked_until=at(f.get("brake_ms")),
        brake_reason=f["reason"].decode() if "reason" in f else None,
        breaker="half_open" if "half" in f else "closed",
        failures_in_row=int(f.get("fails", 0)),
        running=int(f["running"]) if counted else None,
        requests_last_minute=recent["r"] if counted else None,
        input_tokens_last_minute=recent["i"] if counted else None,
        output_tokens_last_minute=recent["o"] if counted else None,
        limits=_unpacked(f.get("limits")),
        learned_limits=_unpacked(f.get("learned")),
    )


def _unpacked(limits: bytes | None) -> dict[str, int]:
    """Those that are set, of what `LaneLimits.packed()` wrote."""
    numbers = map(int, limits.split(b",")) if limits else ()
    return {name: n for name, n in zip(_LIMITS, numbers, strict=False) if n}
