"""A tenant's ledger, read in pages by the time at which rows were booked: a page costs what it holds."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from onceq.wire import LedgerEntry
from onceq_service.store._pipe import Pipe
from onceq_service.store.keys import Keys
from onceq_service.store.stats import entry_of
from onceq_service.store.views import fields_of

_CURSOR = re.compile(r"[0-9]{1,15}-[0-9]{1,15}")
Row = tuple[bytes, list[bytes]]


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows oldest first; `more` says that others follow; rows before `kept_since_ms` have left (None: none has)."""

    entries: list[LedgerEntry]
    more: bool
    kept_since_ms: int | None


class Ledger:
    """Reads what the scripts booked."""

    def __init__(self, pipe: Pipe, keys: Keys) -> None:
        self._pipe, self._keys = pipe, keys

    async def page(self, tenant: str, since_ms: int, until_ms: int, after: str | None, limit: int) -> Rows:
        """Rows booked in [since, until), of them those behind the row `after`; raises ValueError when that is no id.

        Times are milliseconds since 1970, not negative.
        """
        if after is not None and not _CURSOR.fullmatch(after):
            raise ValueError("not an id of a ledger row")
        key = self._keys("ledger", tenant)
        behind = after is not None and int(after.partition("-")[0]) >= since_ms
        start = f"({after}" if behind else str(since_ms)
        reply, first = await asyncio.gather(
            self._pipe.command("XRANGE", key, start, f"({max(until_ms, 1)}-0", "COUNT", limit + 1),
            self._pipe.command("XRANGE", key, "-", "+", "COUNT", 1),
        )
        rows = cast("list[Row]", reply)
        kept_since_ms = await self._kept_since_ms(key, cast("list[Row]", first))
        return Rows([_entry(row) for row in rows[:limit]], len(rows) > limit, kept_since_ms)

    async def _kept_since_ms(self, key: str, first: Sequence[Row]) -> int | None:
        if not first:
            return None
        facts = cast("list[object]", await self._pipe.command("XINFO", "STREAM", key))
        named = dict(zip(cast("list[bytes]", facts[::2]), facts[1::2], strict=True))
        left = cast("int", named[b"entries-added"]) > cast("int", named[b"length"])
        return int(first[0][0].partition(b"-")[0]) if left else None


def _entry(row: Row) -> LedgerEntry:
    row_id, flat = row
    return entry_of({name: value.decode() for name, value in fields_of(flat).items()} | {"id": row_id.decode()})
