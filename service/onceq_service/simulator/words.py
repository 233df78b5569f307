"""Readable text from a seed: sentences about queues and weather stations, with markdown, accents and emoji.

A piece is what one token carries. The first n pieces of a seed are the same however many are asked for.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

SUBJECTS = (
    "the worker", "a patient reader", "every replica", "the old lighthouse", "our ledger", "the night shift",
    "a small team", "the second attempt", "the weather station", "this queue", "the harbour clock", "one careful call",
)  # fmt: skip
VERBS = (
    "remembers", "keeps track of", "waits for", "quietly repairs", "counts", "never loses", "hands over",
    "explains", "measures", "carries", "sorts out", "looks after",
)  # fmt: skip
OBJECTS = (
    "the last token", "each numbered page", "a bill of 3.20 €", "what the storm left", "the slow answers",
    "the blue notebook", "an unfinished sentence", "the café's naïve résumé", "42 open tickets", "the tide table",
    "its own mistakes", "the 東京 office",
)  # fmt: skip
TAILS = (
    "", "", "", " before the morning", " without asking twice", " while the kettle boils", " and writes it down",
    ", so nobody pays again", ", even after a restart", " – once is enough", " with `retry=0` set", " as agreed",
)  # fmt: skip
JOINTS = (
    "", "", "", "", "", "", " ✅", " 🚀", " 👩‍🔬", "\n\n", "\n\n", "\n- ", "\n1. ", "\n\n## What follows\n\n", "\n\n> ",
    "\n\n```text\nok: true\n```\n\n", " **Note:**",
)  # fmt: skip

_PIECE = re.compile(r"\s*[^\s\w]*\w+|\s*[^\s\w]+|\s+")
_ODD_PIECE = re.compile(r"\w{1,6}|\W{1,3}", re.DOTALL)


def text_pieces(seed: int, count: int) -> list[str]:
    """`count` pieces of prose, each at least one character."""
    pieces: list[str] = []
    sentences = _sentences(random.Random(seed))  # noqa: S311 - prose, not secrets
    while len(pieces) < count:
        pieces.extend(next(sentences))
    del pieces[count:]
    return pieces


def split(text: str) -> list[str]:
    """Any text (JSON above all) as pieces of a few characters that join to it again."""
    return _ODD_PIECE.findall(text)


def _sentences(dice: random.Random) -> Iterator[tuple[str, ...]]:
    pick = dice.choice
    gap = ""
    while True:
        joint = pick(_JOINTS)
        yield pick(_STARTS if not gap else _NEXTS)
        yield pick(_VERBS)
        yield pick(_OBJECTS)
        yield pick(_TAILS)
        yield joint
        gap = "" if joint and joint[-1][-1] in "\n >" else " "


def _pieces(text: str) -> tuple[str, ...]:
    return tuple(_PIECE.findall(text))


# Cut once at import, so that a stream costs a few choices a sentence and no regular expression.
_STARTS = tuple(_pieces(s[0].upper() + s[1:]) for s in SUBJECTS)
_NEXTS = tuple(_pieces(" " + s[0].upper() + s[1:]) for s in SUBJECTS)
_VERBS = tuple(_pieces(" " + verb) for verb in VERBS)
_OBJECTS = tuple(_pieces(" " + thing) for thing in OBJECTS)
_TAILS = tuple(_pieces(tail + ".") for tail in TAILS)
_JOINTS = tuple(_pieces(joint) for joint in JOINTS)
