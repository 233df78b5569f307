"""Tells whoever makes a call when its request has left, from inside the HTTP client."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Final

import httpx2

OnSent = Callable[[bool], None]
"""`heeded`: the answer's first words wake this process at once (wakeups.py)."""
ON_SENT: Final[ContextVar[OnSent | None]] = ContextVar("onceq_on_sent", default=None)
"""Called in the task that makes the call, once its request has been written to the connection."""
WRITTEN: Final = frozenset({"http11.send_request_body.complete", "http2.send_request_body.complete"})


def sent() -> None:
    """The request has left; nothing happens when nobody wants to know."""
    if (told := ON_SENT.get()) is not None:
        told(False)


async def trace_sent(request: httpx2.Request) -> None:
    """An event hook of the client: looks for the end of the request's body."""
    if ON_SENT.get() is not None:
        request.extensions = {**request.extensions, "trace": _trace}


async def _trace(event: str, info: object) -> None:
    if event in WRITTEN:
        sent()
