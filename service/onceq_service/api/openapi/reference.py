"""GET /docs: the reference of this API in a browser, by files of this machine.

FastAPI's own page has a public host's scripts run where API keys are typed in, and is empty without the internet.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Final

from fastapi import APIRouter, HTTPException, Response
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import FileResponse

router = APIRouter(include_in_schema=False)

FOLDER: Final = Path(str(files("fastapi_offline"))) / "static"
TYPES: Final = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
POLICY: Final = "default-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
"""Nothing from elsewhere; inline, since that is how Swagger UI is started and drawn."""


@router.get("/docs")
async def page() -> Response:
    """Swagger UI over /openapi.json. What it loads is named from the page on, so that it works below a path too."""
    script, style = (f"docs/{name}" for name in TYPES)
    answer = get_swagger_ui_html(
        openapi_url="openapi.json", title="onceq: API reference", swagger_js_url=script, swagger_css_url=style,
        swagger_favicon_url="data:,",
    )  # fmt: skip
    answer.headers["content-security-policy"] = POLICY
    return answer


@router.get("/docs/{name}")
async def part(name: str) -> Response:
    """One of its files."""
    if name not in TYPES:
        raise HTTPException(404)
    return FileResponse(FOLDER / name, media_type=TYPES[name])
