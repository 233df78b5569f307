"""Refuses a body by how many values it has, before pydantic reads it.

Why: pydantic looks at every value and collects all that is wrong before it says anything. 7 MB of wrong labels held an
API process for seconds, and grew it to 1.6 GB, to name 20 of 1,400,000 errors.
"""

from __future__ import annotations

from typing import Final

import msgspec

from onceq_service.api.http.problems import Refused, invalid_field

MOST_VALUES: Final = 50_000
"""Values of one request: list items and members of objects, however deep. 2,000 messages with three parts each have
30,000."""


def must_be_few(body: bytes, most: int = MOST_VALUES) -> None:
    """Raises Refused where a body has more values: 422, or 400 when it is not JSON at all."""
    if are_more(body, most):
        must_be_json(body)
        raise too_many(most)


def are_more(text: bytes, most: int = MOST_VALUES) -> bool:
    """Whether a JSON text has more values than that; an empty list or object is one more. Of what is not JSON it says
    anything."""
    if _marks(text) <= most:
        return False  # with those in strings: so it is for nearly all
    quoted = text.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"', 4 * most + 2)
    # A value has two strings at most, its name and itself, so four quotes.
    return len(quoted) > 4 * most + 2 or _marks(b"".join(quoted[::2])) > most


def _marks(text: bytes) -> int:
    """What begins a value, or parts it from the one before."""
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def must_be_json(body: bytes) -> None:
    """Raises Refused (400) where it is not."""
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError) as exc:
        raise Refused("malformed_json", f"The body is not JSON: {exc}.") from exc


def too_many(most: int = MOST_VALUES) -> Refused:
    """422 for them."""
    return invalid_field("", f"it has more than {most:,} values (list items and members of objects); send fewer")
