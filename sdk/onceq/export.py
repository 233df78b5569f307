"""Ledger rows as a table: the columns, CSV that a spreadsheet can open without running it, and Parquet.

The service writes the same CSV and Parquet (`GET /v1/ledger.csv`, `/v1/ledger.parquet`). Parquet is pyarrow's (extra
`export`), which is imported when it is first asked for.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from importlib import import_module
from typing import Any, Final

from onceq.errors import ConfigurationError
from onceq.wire import NANO, LedgerEntry

Cell = str | int | bool | None
_FORMULA: Final = re.compile(r" *[\t\r\n]|[\s\x00-\x1f]*[=+\-@＝＋－＠]")
"""How a text begins that is a formula to some spreadsheet: they pass over white space, and know full-width signs."""

COLUMNS: Final[dict[str, Callable[[LedgerEntry], Cell]]] = {
    "row_id": lambda e: e.id,
    "booked_at_utc": lambda e: rfc3339(e.at),
    "job_id": lambda e: e.job,
    "try_number": lambda e: e.try_no,
    "call_number": lambda e: e.call,
    "team": lambda e: e.team,
    "key_id": lambda e: e.key,
    "user": lambda e: e.user,
    "labels_json": lambda e: json.dumps(e.labels, ensure_ascii=False, sort_keys=True) if e.labels else "",
    "band": lambda e: e.band,
    "model": lambda e: e.model,
    "outcome": lambda e: e.outcome,
    "billed": lambda e: e.billed,
    "estimated": lambda e: e.estimated,
    "simulated": lambda e: e.simulated,
    "input_tokens": lambda e: e.input_tokens,
    "cached_tokens": lambda e: e.cached_tokens,
    "cache_write_tokens": lambda e: e.cache_write_tokens,
    "output_tokens": lambda e: e.output_tokens,
    "reasoning_tokens": lambda e: e.reasoning_tokens,
    "spent_nano_usd": lambda e: e.spent_nano_usd,
    "spent_usd": lambda e: usd(e.spent_nano_usd),
    "wasted_nano_usd": lambda e: e.wasted_nano_usd,
    "wasted_usd": lambda e: usd(e.wasted_nano_usd),
    "waste_reason": lambda e: e.waste_reason or "",
    "price_version": lambda e: e.price_version,
    "reserved_nano_usd": lambda e: e.reserved_nano_usd,
    "restated_nano_usd": lambda e: e.restated_nano_usd,
    "restated_usd": lambda e: usd(e.restated_nano_usd),
    "restated_price_version": lambda e: e.restated_price_version or "",
}
"""By name, in order. An unpriced cost is empty, never 0; `restated_*` is empty unless it was asked for."""
_WHOLE: Final = frozenset(name for name in COLUMNS if name.endswith(("_tokens", "_nano_usd", "_number")))
_FLAGS: Final = frozenset({"billed", "estimated", "simulated"})


def rfc3339(at: datetime) -> str:
    """A time in UTC, to the millisecond: `2026-11-24T10:00:00.000Z`."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def usd(nano: int | None) -> str | None:
    """Nano-USD as exact decimal dollars with nine places; None stays None."""
    if nano is None:
        return None
    sign = "-" if nano < 0 else ""
    return f"{sign}{abs(nano) // NANO}.{abs(nano) % NANO:09d}"


def csv_text(entries: Iterable[LedgerEntry], *, head: bool = True) -> str:
    """The rows as CSV (RFC 4180: lines end with CR LF), with the line of column names when `head`."""
    out = io.StringIO()
    writer = csv.writer(out)
    if head:
        writer.writerow(COLUMNS)
    writer.writerows([_csv_cell(name, value(entry)) for name, value in COLUMNS.items()] for entry in entries)
    return out.getvalue()


def guarded(text: str) -> str:
    """A text for a cell of CSV, led by an apostrophe where a spreadsheet would run it (OWASP, "CSV injection")."""
    return f"'{text}" if _FORMULA.match(text) else text


def _csv_cell(name: str, value: Cell) -> str | int:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and not name.endswith("_usd"):
        return guarded(value)
    return "" if value is None else value


def parquet_schema() -> Any:
    """The Arrow schema: whole numbers int64, times in UTC, the rest text. Raises ConfigurationError without pyarrow."""
    pa = _pyarrow()

    def kind(name: str) -> Any:
        if name == "booked_at_utc":
            return pa.timestamp("ms", tz="UTC")
        return pa.int64() if name in _WHOLE else pa.bool_() if name in _FLAGS else pa.string()

    return pa.schema([(name, kind(name)) for name in COLUMNS])


def arrow_table(entries: Iterable[LedgerEntry]) -> Any:
    """The rows as a pyarrow Table; texts are as they are, since nothing runs them."""
    rows = [
        {name: entry.at if name == "booked_at_utc" else value(entry) for name, value in COLUMNS.items()}
        for entry in entries
    ]
    return _pyarrow().Table.from_pylist(rows, schema=parquet_schema())


def parquet_bytes(entries: Iterable[LedgerEntry]) -> bytes:
    """A whole Parquet file of the rows, the same bytes for the same rows. Raises ConfigurationError without pyarrow."""
    table, out = arrow_table(entries), io.BytesIO()
    import_module("pyarrow.parquet").write_table(table, out)
    return out.getvalue()


def _pyarrow() -> Any:
    try:
        return import_module("pyarrow")
    except ImportError as exc:
        raise ConfigurationError("Parquet needs pyarrow: pip install 'onceq[export]', or write .csv.") from exc
