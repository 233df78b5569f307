"""The API as one ASGI app: the door, the routes, problems for everything that goes wrong, and the document."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Match, Route

from onceq.errors import ConfigurationError
from onceq_service.api import documented, health, jobs, keys, metrics, models, stats
from onceq_service.api.batch import submit_batch
from onceq_service.api.door import Door, Handler
from onceq_service.api.events import Events
from onceq_service.api.problems import Refused, invalid_fields
from onceq_service.api.replies import Reply
from onceq_service.api.service import Service
from onceq_service.api.submit import submit
from onceq_service.settings import Settings

HOT: dict[tuple[str, str], Handler] = {("POST", "/v1/jobs"): submit, ("POST", "/v1/jobs/batch"): submit_batch}
PUBLIC = ("/livez", "/readyz")


def build_app(settings: Settings) -> FastAPI:
    """The app of one API process; it starts although Redis is away. Raises ConfigurationError."""
    service = Service(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = FastAPI(
        title="onceq", version=health.VERSION, lifespan=lifespan, redirect_slashes=False, redoc_url=None,
        description="LLM calls behind a queue: each one is paid for once, and survives every disconnect.",
    )  # fmt: skip
    app.state.service = service
    app.router.routes.append(Route("/v1/jobs/{job_id}/events", Events(service), methods=["GET"]))
    for part in (jobs, stats, models, keys, health, metrics):
        app.include_router(part.router)
    app.add_exception_handler(HTTPException, _http_problem)
    app.add_exception_handler(RequestValidationError, _validation_problem)
    app.add_middleware(Door, service=service, hot=HOT)
    _allow_origins(app, settings.cors_origins)
    app.openapi = lambda: _document(app)
    return app


def _allow_origins(app: FastAPI, origins: Sequence[str]) -> None:
    if "*" in origins:
        raise ConfigurationError("ONCEQ_CORS_ORIGINS names exact origins, not *: list the pages that may call the API.")
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "X-API-Key", "Content-Type", "Idempotency-Key", "Last-Event-ID", "If-None-Match"],
            expose_headers=["Location", "Idempotent-Replayed", "Retry-After", "ETag"],
        )  # fmt: skip


async def _http_problem(request: Request, exc: Exception) -> Response:
    status = cast("HTTPException", exc).status_code
    path = request.scope["path"]
    if status == 405:
        allowed = ", ".join(sorted(_methods(request)))
        detail = f"{request.method} is not allowed here; allowed: {allowed}."
        return response(Refused("method_not_allowed", detail, headers=[(b"allow", allowed.encode())]).reply(path))
    if status == 404:
        return response(Refused("not_found", "There is nothing here; /openapi.json lists what there is.").reply(path))
    return response(Refused("bad_request", "The request can't be read.").reply(path))


async def _validation_problem(request: Request, exc: Exception) -> Response:
    return response(invalid_fields(cast("RequestValidationError", exc).errors()).reply(request.scope["path"]))


def response(reply: Reply) -> Response:
    """A reply for FastAPI to send."""
    answer = Response(reply.body, reply.status)
    answer.raw_headers.extend(reply.headers)
    return answer


def _methods(request: Request) -> set[str]:
    """Every method that this path has."""
    found = {method for method, path in HOT if path == request.scope["path"]}
    for route in request.app.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return found


def _document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, made once: FastAPI's, the plain routes', the security scheme."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description,
            routes=[*documented.routes.routes, *app.routes],
        )  # fmt: skip
        app.openapi_schema = documented.complete(document, PUBLIC)
    return app.openapi_schema
