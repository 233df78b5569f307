"""Tells whoever makes a call how far its request has come, from inside the HTTP client."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Final

import httpx2

OnSent = Callable[[bool], None]
"""`heeded`: the answer's first words wake this process at once (wakeups.py)."""
WRITING: Final = frozenset({"http11.send_request_headers.started", "http2.send_request_headers.started"})
WRITTEN: Final = frozenset({"http11.send_request_body.complete", "http2.send_request_body.complete"})


class Departure:
    """How far the request of one call has come. `on_sent` is called once all of it has been written."""

    __slots__ = ("left", "sent")

    def __init__(self, on_sent: OnSent) -> None:
        self.left = False
        """Whether it may have left this machine; until then the call is free. Any thread may write it."""
        self.sent = on_sent


DEPARTURE: Final[ContextVar[Departure | None]] = ContextVar("onceq_departure", default=None)
"""Of the call that this task makes."""


def leaving() -> None:
    """The request's first byte may leave from here on; nothing happens when nobody wants to know."""
    if (departure := DEPARTURE.get()) is not None:
        departure.left = True


def is_here() -> bool:
    """Whether nothing of the request can have left; where nobody looks it is not known."""
    departure = DEPARTURE.get()
    return departure is not None and not departure.left


def sent() -> None:
    """All of the request has left."""
    if (departure := DEPARTURE.get()) is not None:
        departure.sent(False)


async def trace_sent(request: httpx2.Request) -> None:
    """An event hook of the client: looks for the beginning of the request and the end of its body."""
    if DEPARTURE.get() is not None:
        request.extensions = {**request.extensions, "trace": _trace}


async def _trace(event: str, info: object) -> None:
    if event in WRITING:
        leaving()
    elif event in WRITTEN:
        sent()
