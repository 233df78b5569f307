"""What kind of Redis this is, and whether its promises suffice for ours (DESIGN: G1's conditions)."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final, cast

from onceq.wire import Durability
from onceq_service.store._pipe import Pipe
from onceq_service.store.errors import StoreDenied, StoreError, StoreUnavailable
from onceq_service.store.keys import OURS

FULL_AT = 0.85
"""Share of maxmemory from which new work is refused, so that running jobs can still finish."""
REPLICA: Final = "this Redis is a replica and takes no jobs: connect to the primary"
SHARED: Final = (
    "this Redis database has keys of others: they may fill the memory that jobs need; give onceq one of its own"
)
LOOKED_AT: Final = 100
"""Keys of the database, about, that are looked at for some of others: few of few are not worth a word."""
GRANT: Final = "this Redis user may not CONFIG GET {}: grant +config|get, or ask the host of this Redis what it is"


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """Facts of the Redis server. `maxmemory` 0 means unlimited; `clock_offset_ms` is Redis's clock minus ours.

    None is what Redis does not tell its user: CONFIG is not allowed, or not there, at many hosts of Redis.
    """

    version: str
    appendonly: bool | None
    appendfsync: str | None
    maxmemory: int
    maxmemory_policy: str | None
    used_memory: int
    clock_offset_ms: int
    role: str
    shared: bool = False
    problems: list[str] = field(default_factory=list[str])
    degraded: list[str] = field(default_factory=list[str])

    @property
    def durability(self) -> Durability:
        """`strict` when an accepted job survives a crash of Redis."""
        return "relaxed" if self.problems else "strict"

    @property
    def replica(self) -> bool:
        """Whether it takes no writes, so no job either."""
        return self.role not in ("master", "?")

    @property
    def full(self) -> bool:
        """Whether new work must be refused."""
        return self.maxmemory > 0 and self.used_memory > FULL_AT * self.maxmemory


async def inspect(pipe: Pipe) -> ServerFacts:
    """Asks the server; raises StoreUnavailable. What its user may not know is None, and no promise."""
    info = _pairs(cast("bytes", await pipe.command("INFO")).decode())
    if info.get("loading") == "1":  # it says meanwhile that it keeps no AOF, so as not to write what it reads
        raise StoreUnavailable("Redis takes no commands now (it is loading its data); try again shortly.")
    fsync, policy = await _setting(pipe, "appendfsync"), await _setting(pipe, "maxmemory-policy")
    seconds, micros = cast("list[bytes]", await pipe.command("TIME"))
    facts = ServerFacts(
        version=info.get("valkey_version", info.get("redis_version", "?")),
        appendonly=info["aof_enabled"] == "1" if "aof_enabled" in info else None,
        appendfsync=fsync,
        maxmemory=int(info.get("maxmemory", 0)),
        maxmemory_policy=policy or info.get("maxmemory_policy"),
        used_memory=int(info.get("used_memory", 0)),
        clock_offset_ms=round(int(seconds) * 1000 + int(micros) / 1000 - time.time() * 1000),
        role=info.get("role", "?"),
        shared=await _is_shared(pipe),
    )
    facts.problems.extend(_problems(facts))
    if not facts.maxmemory:
        facts.degraded.append("maxmemory is not set: Redis may take all memory of the machine; set it")
    if facts.shared:
        facts.degraded.append(SHARED)
    return facts


async def memory(pipe: Pipe) -> tuple[int, int]:
    """Bytes used and the limit (0: none)."""
    info = _pairs(cast("bytes", await pipe.command("INFO", "memory")).decode())
    return int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))


async def _is_shared(pipe: Pipe) -> bool:
    """Whether others keep keys beside ours, a cache for one."""
    try:
        _, names = cast("tuple[bytes, list[bytes]]", await pipe.command("SCAN", 0, "COUNT", LOOKED_AT))
    except StoreDenied:
        return False
    return not all(name.startswith(OURS.encode()) for name in names)


async def _setting(pipe: Pipe, name: str) -> str | None:
    try:
        flat = cast("list[bytes]", await pipe.command("CONFIG", "GET", name))
    except StoreDenied:
        return None
    except StoreUnavailable:
        raise
    except StoreError:  # some hosts of Redis have no CONFIG
        return None
    return flat[1].decode() if flat else None


def _pairs(text: str) -> dict[str, str]:
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def _problems(f: ServerFacts) -> list[str]:
    found: list[str] = []
    if f.appendonly is None:
        found.append("Redis does not say whether appendonly is yes: unless it is, a restart loses accepted jobs")
    elif not f.appendonly:
        found.append("appendonly is not yes: a restart of Redis loses accepted jobs; CONFIG SET appendonly yes")
    if f.appendfsync is None:
        found.append(f"{GRANT.format('appendfsync')}; unless it is always, a crash of Redis may lose accepted jobs")
    elif f.appendfsync != "always":
        found.append("appendfsync is not always: a crash of Redis may lose accepted jobs; set appendfsync always")
    if f.maxmemory_policy is None:
        found.append(f"{GRANT.format('maxmemory-policy')}; unless it is noeviction, Redis may drop jobs")
    elif f.maxmemory_policy != "noeviction":
        found.append("maxmemory-policy is not noeviction: Redis may drop jobs; set maxmemory-policy noeviction")
    if f.replica:
        found.append(REPLICA)
    return found
