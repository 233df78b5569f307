"""A store in a time that stands still until its test lets some of it pass: no stall of a process makes it any later."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, cast

import pytest

from onceq_service import store as stores
from onceq_service.store import Retention, Store, open_store
from onceq_service.store._pipe import Arg
from onceq_service.store.keys import Keys
from tests.faults.clock import ClockedPipe

START_MS = round(datetime(2099, 6, 15, 10, 30, tzinfo=UTC).timestamp() * 1000)
"""When each test begins: no hour, day or month of any time zone ends near it, and by this machine's clock, which a few
readers ask, it is yet to come."""


class TimedPipe(ClockedPipe):
    """Who asks it for the time hears the one that its scripts live in."""

    def command(self, *args: Arg) -> Awaitable[Any]:
        return self._time() if args == ("TIME",) else super().command(*args)

    async def _time(self) -> list[bytes]:
        now_ms = int(cast("bytes", await super().command("GET", self._clock)))
        return [b"%d" % (now_ms // 1000), b"%d" % (now_ms % 1000 * 1000)]


@asynccontextmanager
async def open_timed(url: str, queue: str, retention: Retention | None = None) -> AsyncGenerator[Store]:
    """As `open_store`, in a time that stands at START_MS."""
    keys = Keys(queue)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stores, "Pipe", partial(TimedPipe, keys=keys))
        async with open_store(url, queue, retention) as store:
            await store._pipe.command("SET", keys("clock"), START_MS)  # pyright: ignore[reportPrivateUsage]
            yield store


async def later(timed: Store, seconds: float) -> int:
    """Lets so much time pass in a store of `open_timed`; says how late it is then, in ms."""
    pipe, clock = timed._pipe, timed.redis_keys("clock")  # pyright: ignore[reportPrivateUsage]
    assert isinstance(pipe, TimedPipe), "the time of this store is Redis's own"
    return await pipe.command("INCRBY", clock, round(seconds * 1000))


async def lived_long(timed: Store) -> None:
    """Redis was looked at without a gap for so long that who is silent now is taken for dead."""
    now = await later(timed, 0)
    pulse = timed.redis_keys("pulse")
    await timed._pipe.command("HSET", pulse, "since", now - 600_000, "last", now)  # pyright: ignore[reportPrivateUsage]
