"""The unit of a stream: one event as bytes, and what it carries."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

encode = msgspec.json.encode


class Frame(NamedTuple):
    """One event of a stream, encoded.

    `tokens` is 0 for events around the text; `text` is what the tokens say, `kind` of what (script.Kind, or "").
    `last` marks the event after which the answer is complete.
    """

    data: bytes
    tokens: int = 0
    text: str = ""
    kind: str = ""
    last: bool = False


def sse(data: object, event: str | None = None) -> bytes:
    """One server-sent event with a JSON payload."""
    head = f"event: {event}\n".encode() if event else b""
    return b"%bdata: %b\n\n" % (head, encode(data))


def around(sample: bytes, mark: bytes = b'"@@"') -> tuple[bytes, bytes]:
    """An encoded event split at its mark, so that the next thousand need one concatenation each."""
    before, _, after = sample.partition(mark)
    return before, after


def split_at(frames: Iterable[Frame], tokens: int) -> tuple[list[Frame], list[Frame]]:
    """The frames up to the given number of tokens, and the rest.

    The first part never has the end marker, and stops at the last token when there are fewer tokens than asked for:
    a fault in mid-stream always strikes.
    """
    every = list(frames)
    strike = min(tokens, sum(frame.tokens for frame in every))
    seen = 0
    for place, frame in enumerate(every):
        if frame.last or (seen >= strike and (seen or frame.tokens)):
            return every[:place], every[place:]
        seen += frame.tokens
    return every, []
