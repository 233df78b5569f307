"""A queue that hears the time from its caller, to be filled with a past: for the showroom and tests alone.

As they are shipped the scripts have no way to be told the time: a prelude goes before them (lua/_backfill.lua), and
what comes out are other scripts with other SHAs. Redis runs them only on a queue that carries the key `clock`. Only a
queue that no process of onceq has ever used gets it; `close` takes it away, and then the queue is one like any other.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any, Final

from redis.asyncio import Redis

from onceq.errors import ConfigurationError
from onceq_service.store import scripts
from onceq_service.store._admissions import Admissions, Outcome
from onceq_service.store._lua import Script, load
from onceq_service.store._pipe import Arg, Pipe, connect
from onceq_service.store.admission import Admission, Admitted, admitted, any_kind
from onceq_service.store.apikeys import ApiKeys
from onceq_service.store.budgets import Budgets
from onceq_service.store.engine import Engine
from onceq_service.store.jobs import Jobs
from onceq_service.store.keys import Keys, lua_builders
from onceq_service.store.retention import Retention
from onceq_service.store.secrets import Hasher, open_hasher

OPEN: Final = load("backfill_open", "now_ms")
CLOSE: Final = load("backfill_close", "most")
_BUILDERS: Final = ("local function k_clock(", "local function k_lapses(")
MOST: Final = 1_000
"""Keys that one run of `backfill_close` looks at."""


@cache
def with_time(script: Script) -> Script:
    """A script that takes its time as one more argument, the last."""
    shebang, root, rest = script.text.split("\n", 2)
    builders = [line for line in lua_builders().splitlines() if line.startswith(_BUILDERS)]
    prelude = (files("onceq_service.store") / "lua" / "_backfill.lua").read_text("utf-8")
    inner = ["return (function()", rest, "end)()"]  # a function of its own: Lua allows 200 names in each
    text = "\n".join([shebang, root, *builders, prelude, *inner])
    return replace(script, text=text, sha=hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


class BackfillPipe(Pipe):
    """A pipe whose scripts live at `now_ms`, which is read when a script is sent."""

    def __init__(self, client: Redis, now_ms: int) -> None:
        super().__init__(client)
        self.now_ms = now_ms

    def script(self, script: Script, root: str, args: Sequence[Arg]) -> Awaitable[Any]:
        """One script, told the time."""
        return super().script(with_time(script), root, [*args, self.now_ms])


class UnbatchedAdmissions(Admissions):
    """Sends each post at its own time, not together with those behind it."""

    def put(self, a: Admission, accept_ms: int) -> Outcome:
        """Sent before this returns."""
        argv = any_kind(a, accept_ms, self._retention.result_s)
        sent = self._pipe.script(scripts.ADMIT, self._root, [self._retention.idempotency_s, len(argv), *argv])
        return asyncio.ensure_future(_first(sent))


async def _first(answers: Awaitable[list[list[object]]]) -> Admitted:
    return admitted((await answers)[0])


@dataclass(frozen=True, slots=True)
class BackfillStore:
    """What fills a queue. `engine` is the product's; claims of `lasting` last without a beat, which nobody here sends.

    What looks after leases is always `engine`: it waits for a lost worker as long as its own lease tells."""

    jobs: Jobs
    engine: Engine
    lasting: Engine
    api_keys: ApiKeys
    budgets: Budgets
    redis_keys: Keys
    lease_ms: int
    """How long a lease of `engine` is."""
    _pipe: BackfillPipe

    def set_time(self, now_ms: int) -> None:
        """Tells the queue what time it is from now on; it must not go back."""
        self._pipe.now_ms = now_ms

    async def hasher(self) -> Hasher:
        """The queue's HMAC for keys and fingerprints."""
        return await open_hasher(self._pipe, self.redis_keys, "hmac")

    async def close(self) -> None:
        """Every key gets the lifetime that it was told; the queue lives by the clock of Redis from here on."""
        while await Pipe.script(self._pipe, CLOSE, self.redis_keys.root, [MOST]):
            pass


@asynccontextmanager
async def open_backfill_store(
    url: str, queue: str, now_ms: int, retention: Retention | None = None, *, lease_s: float = 3_600.0
) -> AsyncGenerator[BackfillStore]:
    """Opens a queue that nothing has used yet; raises ConfigurationError where something has.

    `lease_s` is how long a claim of `lasting` lasts without a beat; leases of `engine` are as `retention` has them.
    """
    keys, kept = Keys(queue), retention or Retention()
    pipe, blocking = BackfillPipe(connect(url, connections=1), now_ms), Pipe(connect(url, connections=1))
    try:
        if not await Pipe.script(pipe, OPEN, keys.root, [now_ms]):
            raise ConfigurationError(
                f"the queue {queue} has been used: only a new one can be filled with a past. Nothing was written."
            )
        for script in scripts.ALL:  # one that had to be loaded in between would run behind those that came after it
            await pipe.command("SCRIPT", "LOAD", with_time(script).text)
        yield BackfillStore(
            jobs=Jobs(pipe, keys, kept, UnbatchedAdmissions(pipe, keys.root, kept)),
            engine=Engine(pipe, keys, kept, blocking),
            lasting=Engine(pipe, keys, replace(kept, lease_s=lease_s), blocking),
            api_keys=ApiKeys(pipe, keys),
            budgets=Budgets(pipe, keys),
            redis_keys=keys,
            lease_ms=kept.lease_ms,
            _pipe=pipe,
        )
    finally:
        await pipe.close()
        await blocking.close()
