"""A few lines of Lua behind the functions that all scripts share."""

from __future__ import annotations

from importlib.resources import files

from onceq_service.store._lua import SHARED, assembled
from onceq_service.store.keys import lua_builders


def shared(body: str) -> str:
    """A whole script: the shared functions that `body` uses, and `body`."""
    folder = files("onceq_service.store") / "lua"
    parts = [lua_builders(), *((folder / f"{part}.lua").read_text("utf-8") for part in SHARED)]
    return "\n".join(["#!lua", "local P = KEYS[1]", assembled("\n".join(parts), body, [])])
