"""Batches: following the ends of many jobs together, over one connection. What they are: lua/_batches.lua.

The log of a batch holds ids alone; a reader gets each job's terminal event and output from the job itself, so that a
batch of a hundred thousand jobs costs Redis some megabytes, and a reader that is behind costs nobody any.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final, cast

from onceq_service.store import scripts
from onceq_service.store._pipe import Pipe
from onceq_service.store.events import EventLog, Take
from onceq_service.store.keys import Keys

PAGE: Final = 100
"""Ends that are read, and sent, at once: their outputs are in memory together."""
GATHER_S: Final = 0.02
"""After a wake, how long ends may gather: a page costs two round trips, however many are on it."""


@dataclass(frozen=True, slots=True)
class BatchState:
    """How many of a batch's jobs have ended, which is its log's last number, and how many have not."""

    ended: int
    live: int


class Batches:
    """The batches of a queue."""

    def __init__(self, pipe: Pipe, keys: Keys, events: EventLog) -> None:
        self._pipe, self._keys, self._events = pipe, keys, events

    async def state(self, tenant: str, batch: str) -> BatchState | None:
        """How far it is; None when this tenant has none of that id, or its log has lapsed."""
        live = await self._live(tenant, batch)
        newest = await self._pipe.command("XREVRANGE", self._keys("batch", tenant, batch), "+", "-", "COUNT", 1)
        ended = _number(newest[0][0]) if newest else 0
        return BatchState(ended, live) if ended or live else None

    async def follow(self, tenant: str, batch: str, after: int, _take: Take | None = None) -> AsyncGenerator[bytes]:
        """Terminal events with outputs behind number `after`, as SSE frames, several at a time; each is read here.

        Ends when all jobs that are in the batch by then have ended.
        """
        with self._events.listening(topic(tenant, batch)) as box:
            while True:
                box.frames.clear()
                live = await self._live(tenant, batch)  # before the page: what ends in between is on it
                page = await self._page(tenant, batch, after)
                if page:
                    yield b"".join(await asyncio.gather(*(self._frame(*entry) for entry in page)))
                    after = page[-1][0]
                    box.found()
                elif not live:
                    return
                if live and len(page) < PAGE:
                    await box.wait()
                    await asyncio.sleep(GATHER_S)

    async def watch(self, tenant: str, batch: str) -> bool:
        """Says that somebody follows the batch now: `on_disconnect: cancel` of its jobs is put off. Always true."""
        await self._pipe.script(scripts.WATCH_BATCH, self._keys.root, [tenant, batch])
        return True

    async def live_ids(self, tenant: str, batch: str) -> AsyncGenerator[list[str]]:
        """The jobs that have not ended, some at a time; one that ends meanwhile may be told or not."""
        cursor = "0"
        while True:
            found = await self._pipe.command("SSCAN", self._keys("batchlive", tenant, batch), cursor, "COUNT", PAGE)
            cursor, ids = cast("tuple[bytes, list[bytes]]", found)
            yield [job_id.decode() for job_id in ids]
            cursor = cursor.decode()
            if cursor == "0":
                return

    async def _live(self, tenant: str, batch: str) -> int:
        return int(await self._pipe.command("SCARD", self._keys("batchlive", tenant, batch)))

    async def _page(self, tenant: str, batch: str, after: int) -> list[tuple[int, bytes, bytes]]:
        """Numbers, job ids and states behind `after`."""
        key = self._keys("batch", tenant, batch)
        rows = await self._pipe.command("XRANGE", key, f"0-{after + 1}", "+", "COUNT", PAGE)
        entries = cast("list[tuple[bytes, list[bytes]]]", rows)
        return [(_number(entry), fields[1], fields[3]) for entry, fields in entries]

    async def _frame(self, number: int, job_id: bytes, state: bytes) -> bytes:
        key = self._keys("job", job_id.decode())
        end, output = cast("list[bytes | None]", await self._pipe.command("HMGET", key, "end", "output"))
        if end is None:  # the job has lapsed before its batch
            end = b'{"job":"%b","status":"%b"}' % (job_id, state)
        data = b'%b,"output":%b}' % (end[:-1], output) if output else end
        return b"id: %d\nevent: %b\ndata: %b\n\n" % (number, state, data)


def topic(tenant: str, batch: str) -> str:
    """What its entries are published as: it ends, as a job's id does, with the hex digits that choose a channel."""
    return f"bat_{hashlib.sha1(f'{tenant}:{batch}'.encode(), usedforsecurity=False).hexdigest()}"


def _number(entry: bytes) -> int:
    return int(entry.partition(b"-")[2])
