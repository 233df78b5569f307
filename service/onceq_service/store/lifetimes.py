"""Which keys of a queue have no lifetime although they should; what the tests hold keys.py's table against."""

from __future__ import annotations

from typing import cast

from onceq.wire import TERMINAL
from onceq_service.store._pipe import Pipe
from onceq_service.store.keys import Keys


async def overdue(pipe: Pipe, keys: Keys) -> list[str]:
    """Scans the whole queue: only for a queue of a test's size."""
    found: list[str] = []
    cursor = "0"
    while True:
        reply = cast("tuple[bytes, list[bytes]]", await pipe.command("SCAN", cursor, "MATCH", f"{keys.root}*"))
        for raw in reply[1]:
            key = raw.decode()
            if not keys.permanent(key) and await pipe.command("PTTL", key) == -1 and not await _live(pipe, keys, key):
                found.append(key)
        cursor = reply[0].decode()
        if cursor == "0":
            return found


async def _live(pipe: Pipe, keys: Keys, key: str) -> bool:
    """Whether the key belongs to a job that has not ended, or to a batch with one."""
    family, _, words = key.removeprefix(keys.root).partition(":")
    if family == "batch":
        tenant, _, batch = words.rpartition(":")
        return bool(await pipe.command("EXISTS", keys("batchlive", tenant, batch)))
    job_id = key.rsplit(":", 1)[1]
    state = cast("bytes | None", await pipe.command("HGET", keys("job", job_id), "state"))
    return state is not None and state.decode() not in TERMINAL
