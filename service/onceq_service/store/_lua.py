"""Loads the Lua scripts: key builders and shared functions are put before each, its header is checked at import.

A header names the script's arguments in a comment, `-- ARGV: a, b, (c, d)...`; the caller's `argv` must name the
same, so that a script and its stub can't drift apart unseen.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files

from onceq_service.store.keys import lua_builders

SHARED = (
    "_base", "_phases", "_events", "_batches", "_waiting", "_lanes", "_fallback", "_budget", "_money", "_blame",
    "_ending",
    "_housekeeping",
)  # fmt: skip
"""In this order, since a Lua function sees only those before it."""
_HEADER = re.compile(r"^-- ARGV: (.*)$", re.MULTILINE)
_NO_CODE = re.compile(r"--.*|'[^'\n]*'")
"""Comments and texts, whose words are no names."""


@dataclass(frozen=True, slots=True)
class Script:
    """One script as Redis gets it: its whole text and the SHA-1 that EVALSHA names it by."""

    name: str
    text: str
    sha: str
    argv: str


def load(name: str, argv: str) -> Script:
    """Reads `lua/<name>.lua`; raises RuntimeError when its header does not name the arguments `argv`."""
    folder = files("onceq_service.store") / "lua"
    body = (folder / f"{name}.lua").read_text("utf-8")
    found = _HEADER.search(body)
    if found is None or found[1] != argv:
        raise RuntimeError(f"{name}.lua takes {found and found[1]!r}, its caller says {argv!r}")
    shebang, rest = body.split("\n", 1)
    shared = "\n".join([lua_builders(), *((folder / f"{part}.lua").read_text("utf-8") for part in SHARED)])
    text = "\n".join([shebang, "local P = KEYS[1]", needed(shared, rest), rest])
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(), argv)


def needed(shared: str, body: str) -> str:
    """The shared definitions that a script uses, directly or through another, in their order.

    Redis builds every function of a script anew at each run, so what is not used is left out.
    """
    blocks = [b for b in re.split(r"^(?=local )", shared, flags=re.MULTILINE) if b.startswith("local ")]
    kept: list[str] = []
    code = _NO_CODE.sub("", body)
    for block in reversed(blocks):
        if any(re.search(rf"\b{name}\b", code) for name in _defined(block)):
            kept.append(block)
            code += _NO_CODE.sub("", block)
    return "".join(reversed(kept))


def _defined(block: str) -> list[str]:
    head = block.split("\n", 1)[0].removeprefix("local ").removeprefix("function ")
    return [name.strip() for name in re.split(r"[(=]", head)[0].split(",")]
