"""Loads the Lua scripts: key builders and shared functions are put before each, its header is checked at import.

A header names the script's arguments in a comment, `-- ARGV: a, b, (c, d)...`; the caller's `argv` must name the
same, so that a script and its stub can't drift apart unseen.

Redis builds every function of a script anew at each run, which was a quarter of what some took. So a script gets what
it uses and no more; and what it names in `-- SELDOM: a, b` is built, with what nothing else uses, when it is called.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from onceq_service.store.keys import lua_builders

SHARED = (
    "_base", "_phases", "_events", "_batches", "_waiting", "_lanes", "_fallback", "_budget", "_money", "_blame",
    "_ending",
    "_housekeeping",
)  # fmt: skip
"""In this order, since a Lua function sees only those before it."""
_HEADER = re.compile(r"^-- ARGV: (.*)$", re.MULTILINE)
_SELDOM = re.compile(r"^-- SELDOM: (.*)$", re.MULTILINE)
_JOB = re.compile(r"(?<=^local JOB = )\{.*?\}", re.MULTILINE | re.DOTALL)
"""The fields of a job that `job_of` reads."""
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
    seldom = _SELDOM.search(body)
    script = assembled(_shared(), rest, seldom[1].split(", ") if seldom else [])
    text = "\n".join([shebang, "local P = KEYS[1]", script])
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(), argv)


@cache
def _shared() -> str:
    folder = files("onceq_service.store") / "lua"
    return "\n".join([lua_builders(), *((folder / f"{part}.lua").read_text("utf-8") for part in SHARED)])


def assembled(shared: str, body: str, seldom: Sequence[str]) -> str:
    """A script with the shared definitions that it uses, those that it uses seldom in a function of their own."""
    blocks = [b for b in re.split(r"^(?=local )", shared, flags=re.MULTILINE) if b.startswith("local ")]
    used = _needed(blocks, body)
    often = _needed([b for b in used if _defined(b)[0] not in seldom], body) if seldom else used
    late = [b for b in used if b not in often]
    if unknown := set(seldom) - {_defined(b)[0] for b in late}:
        raise RuntimeError(f"a script's header names as seldom used what it never uses: {', '.join(sorted(unknown))}")
    return _only_fields_used("".join([*_stubs(seldom), *often, *_at_need(late, seldom), body]))


def _needed(blocks: Sequence[str], body: str) -> list[str]:
    """The definitions that `body` uses, directly or through another, in their order."""
    kept: list[str] = []
    named = set(_words(body))
    for block in reversed(blocks):
        if not named.isdisjoint(_defined(block)):
            kept.append(block)
            named |= _words(block)
    return kept[::-1]


@cache
def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", _NO_CODE.sub("", text)))


def _stubs(seldom: Sequence[str]) -> Iterator[str]:
    """Functions that stand for those used seldom, until one of them is called."""
    if seldom:
        yield "local seldom, at_need\n"
    for name in seldom:
        yield f"local function {name}(...) return (seldom or at_need()).{name}(...) end\n"


def _at_need(late: Sequence[str], seldom: Sequence[str]) -> Iterator[str]:
    if seldom:
        names = ", ".join(f"{name} = {name}" for name in seldom)
        yield "".join(["function at_need()\n", *late, f"seldom = {{{names}}}\nreturn seldom\nend\n"])


def _only_fields_used(text: str) -> str:
    """`job_of` reads of a job's fields those that the script knows as `.name`."""
    used = frozenset(re.findall(r"\.(\w+)", _NO_CODE.sub("", text)))
    return _JOB.sub(lambda found: _of_them(found[0], used), text)


def _of_them(fields: str, used: frozenset[str]) -> str:
    names = [name for name in re.findall(r"'(\w+)'", fields) if name in used]
    return "{" + ", ".join(f"'{name}'" for name in names) + "}"


def _defined(block: str) -> list[str]:
    head = block.split("\n", 1)[0].removeprefix("local ").removeprefix("function ")
    return [name.strip() for name in re.split(r"[(=]", head)[0].split(",")]
