"""Data frames as files for a spreadsheet. Pure."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from typing import Final

_STARTS_A_FORMULA: Final = re.compile(r" *[\t\r\n]|[\s\x00-\x1f]*[=+\-@＝＋－＠]")


def csv_bytes(rows: Iterable[Mapping[str, object]], columns: Iterable[str]) -> bytes:
    """Rows as CSV (RFC 4180), UTF-8 with a byte order mark so that Excel reads it as such.

    A text that a spreadsheet would run as a formula is led by an apostrophe (OWASP, "CSV injection").
    """
    out = io.StringIO()
    names = list(columns)
    writer = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\r\n")
    writer.writerow(names)
    writer.writerows([_cell(row[name]) for name in names] for row in rows)
    return out.getvalue().encode("utf-8-sig")


def _cell(value: object) -> object:
    if isinstance(value, str) and _STARTS_A_FORMULA.match(value):
        return f"'{value}"
    return value
