"""Where a stream is shown: a notebook's cell, by display updates, or plain text on standard output."""

from __future__ import annotations

import sys
import time
from importlib import import_module
from typing import Any, Final, Protocol

from onceq import _display
from onceq._stream import Reset

SHORTEST_PAUSE_S: Final = 0.08
"""A cell is drawn again at most this often: each update carries the whole text."""
SHARE_OF_TIME: Final = 4
"""A long text is drawn less often, so that drawing takes a fifth of the time at most."""


class Screen(Protocol):
    """Shows a text that grows, then its end."""

    def update(self, text: str, foot: str) -> None:
        """Show the text as it is now."""
        ...

    def end(self, text: str, foot: str, error: str = "") -> None:
        """Show what is final; called once, last."""
        ...


class Cell:
    """The output of a notebook's cell: HTML for the frontend, plain text for the rest, replaced in place."""

    def __init__(self) -> None:
        self._handle: Any = None  # IPython's DisplayHandle
        self._not_before = 0.0
        _display.answer_html("-", "")  # imports the renderer while the model thinks, or the first drawing is a slow one

    def update(self, text: str, foot: str) -> None:
        """Show the text, unless the cell was drawn a moment ago."""
        begun = time.monotonic()
        if begun < self._not_before:
            return
        self._draw(text, foot, "")
        now = time.monotonic()
        self._not_before = now + max(SHORTEST_PAUSE_S, SHARE_OF_TIME * (now - begun))

    def end(self, text: str, foot: str, error: str = "") -> None:
        """Show the last state."""
        self._draw(text, foot, error)

    def _draw(self, text: str, foot: str, error: str) -> None:
        bundle = {
            "text/html": _display.answer_html(text, foot, error),
            "text/plain": _display.plain("\n".join(part for part in (text, error, foot) if part)),
        }
        if self._handle is None:
            ipython: Any = import_module("IPython.display")  # only a running notebook comes here; it is hardly typed
            self._handle = ipython.display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)


class Terminal:
    """Standard output, a terminal or not: what is new is written behind what is there, without any escape sequence."""

    def __init__(self) -> None:
        self._written = ""

    def update(self, text: str, foot: str) -> None:
        """Write what has come; a text that began again begins on a line of its own."""
        if not text.startswith(self._written):
            _write(str(Reset(None)))
            self._written = ""
        _write(_display.plain(text[len(self._written) :]))
        self._written = text

    def end(self, text: str, foot: str, error: str = "") -> None:
        """Write the rest, and the footer on a line of its own."""
        self.update(text, foot)
        _write("".join(f"\n{_display.plain(part)}" for part in (error, foot) if part) + "\n")


def screen_here() -> Screen:
    """A cell inside a notebook's kernel, else standard output."""
    return Cell() if in_notebook() else Terminal()


def in_notebook() -> bool:
    """Whether a frontend shows what is displayed; an IPython in a terminal has none."""
    if "IPython" not in sys.modules:
        return False
    from IPython.core.getipython import get_ipython

    shell: Any = get_ipython()
    return getattr(shell, "kernel", None) is not None


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
