"""What `onceq dashboard` serves: Streamlit with our pages, and its empty page as `index_page.py` has it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import streamlit as st
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from onceq_dashboard import index_page
from onceq_dashboard.options import PATHS


async def _shell(_: Request) -> Response:
    return HTMLResponse(index_page.page(), headers={"Cache-Control": "no-cache"})


async def _home(request: Request) -> Response:
    """The first page has no path of its own; who writes its name comes to it."""
    return RedirectResponse(f"./?{request.url.query}" if request.url.query else "./")


FRAMED: Final = {"Content-Security-Policy": "frame-ancestors 'self'", "X-Frame-Options": "SAMEORIGIN"}
"""Who may show an answer in a frame: the dashboard itself alone, since its buttons cancel jobs and make keys."""


class _Framed:
    """Says so with every answer, Streamlit's own too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(FRAMED)
            await send(message)

        await self._app(scope, receive, tell)


SCRIPT: Final = Path(__file__).with_name("app.py")

app = st.App(
    SCRIPT, routes=[*(Route(f"/{path}", _shell) for path in PATHS), Route("/overview", _home)],
    middleware=[Middleware(_Framed)],
)  # fmt: skip
