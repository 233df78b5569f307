"""The OpenAPI document: FastAPI's of all routes, and what it can't know of them: models that are named by reference
alone, how to send a key, and the scope that it needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from onceq.wire import (
    ApiKeyRequest,
    BudgetChange,
    BudgetRequest,
    Event,
    Problem,
    ReplayRequest,
    Scope,
    Switch,
)
from onceq_service.api import stream_token
from onceq_service.api.auth import SCOPE_OF
from onceq_service.api.openapi import documented

REFERRED: Final = (Problem, Event, ReplayRequest, BudgetRequest, BudgetChange, Switch, ApiKeyRequest)
"""Models that the document names by reference only."""
SCHEMES: Final = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key: `oq_...`."},
    "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "stream_token": {
        "type": "apiKey", "in": "query", "name": "token",
        "description": "Of `POST /v1/jobs/{job_id}/stream-token`, for a browser that can send no header.",
    },
}  # fmt: skip
DESCRIPTION: Final = """LLM calls behind a queue: each one is paid for once, and survives every disconnect.

What goes wrong is answered as `application/problem+json` (Problem). Each route lists its own; any of them may also
answer 405 with `Allow` where the path does not have the method, 408 or 431 where the request does not end, and 500 for
a fault of ours, after which trying again is safe. HEAD is answered like GET, without the body, but on event streams.

The security of a route names the scope that its API key needs. `admin` stands for all of them within its tenant but
`operator`, which stands for all.
"""


def document_of(app: FastAPI, routes: Sequence[BaseRoute]) -> dict[str, Any]:
    """The document of these routes."""
    document = get_openapi(title=app.title, version=app.version, description=DESCRIPTION, routes=routes)
    schemas = document["components"]["schemas"]
    for model in REFERRED:
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}", mode=_mode(model))
        schemas.update(schema.pop("$defs", {}) | {model.__name__: schema})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    document["components"]["securitySchemes"] = SCHEMES
    document["servers"] = [{"url": ".", "description": "Where this document is, below a proxy's path too."}]
    document["security"] = [{"bearer": []}, {"api_key": []}]
    for route in routes:
        if isinstance(route, APIRoute) and route.include_in_schema:
            for method in route.methods or ():
                _mend(document["paths"][route.path][method.lower()], route)
    return document


def _mode(model: type) -> Any:
    return "serialization" if model in (Problem, Event) else "validation"


def _mend(operation: dict[str, Any], route: APIRoute) -> None:
    if "application/json" in operation["responses"].get("422", {}).get("content", {}):
        del operation["responses"]["422"]  # FastAPI's own word, which no route of ours says
    for one in operation.get("parameters", []):
        if one["in"] == "path":
            one["description"] = documented.IN_PATHS[one["name"]]
    ways = ["bearer", "api_key", *(["stream_token"] if route.path == stream_token.PATH else [])]
    scopes = list(_scopes(route.dependant))
    operation["security"] = [] if route.path in PUBLIC else [{way: scopes} for way in ways]


def _scopes(dependant: Dependant) -> Iterator[Scope]:
    for one in dependant.dependencies:
        if one.call in SCOPE_OF:
            yield SCOPE_OF[one.call]


PUBLIC: Final = ("/livez", "/readyz")
"""Paths that need no key."""
