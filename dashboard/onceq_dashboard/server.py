"""What `onceq dashboard` serves: Streamlit with our pages, and its empty page as `shell.py` has it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import streamlit as st
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from onceq_dashboard import shell
from onceq_dashboard.options import PATHS


async def _shell(_: Request) -> Response:
    return HTMLResponse(shell.page(), headers={"Cache-Control": "no-cache"})


async def _home(request: Request) -> Response:
    """The first page has no path of its own; who writes its name comes to it."""
    return RedirectResponse(f"./?{request.url.query}" if request.url.query else "./")


SCRIPT: Final = Path(__file__).with_name("app.py")

app = st.App(
    SCRIPT, routes=[*(Route(f"/{path}", _shell) for path in PATHS), Route("/overview", _home)],
)  # fmt: skip
