"""The scripts with a clock that a test sets, and answers that a test can lose on their way."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from redis.asyncio import Redis

from onceq_service.store._lua import Script
from onceq_service.store._pipe import Arg, Pipe
from onceq_service.store.errors import StoreUnavailable
from onceq_service.store.keys import Keys

TIME = "local t = redis.call('TIME')\n  return t[1] * 1000 + math.floor(t[2] / 1000)"


@cache
def clocked(script: Script) -> Script:
    """The same script, its time read from a key of the queue instead of from Redis; what Redis's own clock would end
    within a test, a quarantine, lasts."""
    assert (TIME in script.text) == ("TIME" in script.text), f"{script.name} asks for the time in a new way"
    text = script.text.replace(TIME, "return tonumber(redis.call('GET', P .. 'clock'))").replace(
        "'PX', 10000)", "'PX', 10000000)"
    )
    return replace(script, text=text, sha=hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


class ClockedPipe(Pipe):
    """A pipe whose scripts live in the test's time."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        super().__init__(client)
        self._clock, self.losing = keys.root + "clock", False

    async def set_clock(self, now_ms: int) -> None:
        """From now on it is this late."""
        await self.command("SET", self._clock, now_ms)

    async def forget_clock(self) -> None:
        """Removes the clock's key."""
        await self.command("DEL", self._clock)

    def script(self, script: Script, root: str, args: Sequence[Arg]) -> Awaitable[Any]:
        """One script; while `losing` its effect is there and its answer is not."""
        return self._answer(super().script(clocked(script), root, args))

    async def _answer(self, running: Awaitable[Any]) -> Any:
        answer = await running
        if self.losing:
            raise StoreUnavailable("the answer was lost on the wire")
        return answer
