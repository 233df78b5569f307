"""Tells whoever makes a call how far its request has come, from inside the HTTP client."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Final

import httpx2

OnSent = Callable[[bool], None]
"""`watched`: the answer's first words wake this process at once (wakeups.py)."""
WRITING: Final = frozenset({"http11.send_request_headers.started", "http2.send_request_headers.started"})
WRITTEN: Final = frozenset({"http11.send_request_body.complete", "http2.send_request_body.complete"})


class SendProgress:
    """How far the request of one call has come. `on_sent` is called once all of it has been written."""

    __slots__ = ("on_sent", "started")

    def __init__(self, on_sent: OnSent) -> None:
        self.started = False
        """Whether it may have left this machine; until then the call is free. Any thread may write it."""
        self.on_sent = on_sent


SEND_PROGRESS: Final[ContextVar[SendProgress | None]] = ContextVar("onceq_send_progress", default=None)
"""Of the call that this task makes."""


def mark_started() -> None:
    """The request's first byte may leave from here on; nothing happens when nobody wants to know."""
    if (progress := SEND_PROGRESS.get()) is not None:
        progress.started = True


def is_unsent() -> bool:
    """Whether nothing of the request can have left; where nobody looks it is not known."""
    progress = SEND_PROGRESS.get()
    return progress is not None and not progress.started


def mark_sent() -> None:
    """All of the request has left."""
    if (progress := SEND_PROGRESS.get()) is not None:
        progress.on_sent(False)


async def trace_sent(request: httpx2.Request) -> None:
    """An event hook of the client: looks for the beginning of the request and the end of its body."""
    if SEND_PROGRESS.get() is not None:
        request.extensions = {**request.extensions, "trace": _trace}


async def _trace(event: str, info: object) -> None:
    if event in WRITING:
        mark_started()
    elif event in WRITTEN:
        mark_sent()
