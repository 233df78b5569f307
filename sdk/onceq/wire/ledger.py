"""A tenant's ledger in pages, as `GET /v1/ledger` gives it."""

from __future__ import annotations

from datetime import datetime

from onceq.wire.reports import LedgerEntry
from onceq.wire.words import Answer


class LedgerPage(Answer):
    """Rows booked from `since` up to, not with, `until`, oldest first. `next_cursor` null: these are the last for now.

    Once `until` has passed, the same range gives the same rows. `kept_since`: rows before it have left the ledger, by
    age or number; null while none has.
    """

    since: datetime | None
    until: datetime
    entries: list[LedgerEntry]
    next_cursor: str | None = None
    kept_since: datetime | None = None
