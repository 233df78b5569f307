"""The API as one ASGI app: the middleware, the routes, problems for everything that goes wrong, and the document."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, cast

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from onceq.errors import OnceqError
from onceq_service.api.http.problems import Refused, answer_to, invalid_query
from onceq_service.api.http.replies import Reply
from onceq_service.api.middleware import ApiMiddleware, Handler
from onceq_service.api.openapi import documented, reference
from onceq_service.api.openapi.document import document_of
from onceq_service.api.routes import budgets, costs, health, jobs, keys, lanes, ledger, metrics, models, stats
from onceq_service.api.service import Service
from onceq_service.api.streams import batches
from onceq_service.api.streams.batches import batch_events_route
from onceq_service.api.streams.events import events_route
from onceq_service.api.submission import quote, replay
from onceq_service.api.submission.batch import submit_batch
from onceq_service.api.submission.fast_path import FastPath
from onceq_service.api.submission.submit import submit
from onceq_service.api.tracing import TracingMiddleware
from onceq_service.settings import Settings
from onceq_service.tracing import Tracing, open_tracing

HOT: dict[tuple[str, str], Handler] = {("POST", "/v1/jobs"): submit, ("POST", "/v1/jobs/batch"): submit_batch}
NO_TELEMETRY: Final[TelemetryConfig] = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
"""FastAPI's own would write down exceptions with their words; tracing.py has our spans."""
PARTS = tuple(
    part.router
    for part in (
        replay,
        jobs,
        batches,
        lanes,
        stats,
        costs,
        quote,
        budgets,
        ledger,
        models,
        keys,
        health,
        metrics,
        reference,
    )
)


class Api(FastAPI):
    """FastAPI behind our middleware: whoever calls the app, by whatever server, comes in through it."""

    def __init__(self, service: Service, tracing: Tracing | None, **says: Any) -> None:
        super().__init__(telemetry=NO_TELEMETRY, **says)
        self.state.service = service
        streams = (events_route(service), batch_events_route(service))
        self.router.routes.extend(streams)  # behind the middleware too, where it is said which methods they have
        middleware = ApiMiddleware(super().__call__, service, HOT, streams)
        app = TracingMiddleware(middleware, tracing.tracer) if tracing else middleware
        self.entry = _allow_origins(app, service.settings.cors_origins)
        watched = tracing is not None or service.settings.log_level == "debug"
        self.fast_path = None if watched else FastPath(service)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http":
            await self.entry(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def build_app(settings: Settings) -> FastAPI:
    """The app of one API process; it starts although Redis is away. Raises ConfigurationError."""
    service, tracing = Service(settings), open_tracing("onceq-api", os.environ)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        async with service.running():
            yield
        if tracing:
            await tracing.close()

    app = Api(
        service, tracing,
        title="onceq", version=health.VERSION, lifespan=lifespan, redirect_slashes=False, docs_url=None, redoc_url=None,
    )  # fmt: skip
    for part in PARTS:
        app.include_router(part)
    app.add_exception_handler(HTTPException, _http_problem)
    app.add_exception_handler(RequestValidationError, _validation_problem)
    for kind in (Refused, OnceqError):
        app.add_exception_handler(kind, _refusal)
    app.add_exception_handler(Exception, _internal_problem)
    app.openapi = lambda: _document(app)
    return app


def _allow_origins(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """The app for browsers on these pages; as it is where there are none."""
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("GET", "POST", "PATCH", "DELETE"),
        allow_headers=documented.REQUEST_HEADERS,
        expose_headers=documented.ANSWER_HEADERS,
    )


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
    return response(invalid_query(cast("RequestValidationError", exc).errors()).reply(request.scope["path"]))


async def _refusal(request: Request, exc: Exception) -> Response:
    """What a route refused, or the store: FastAPI's own stack would make a bare 500 of it."""
    return _answer(request, exc)


async def _internal_problem(request: Request, exc: Exception) -> Response:
    """Our fault: the log has its kind and place, the client gets a problem without them."""
    return _answer(request, exc)


def _answer(request: Request, exc: Exception) -> Response:
    path = request.scope["path"]
    return response(answer_to(exc, f"{request.method} {path}").reply(path))


def response(reply: Reply) -> Response:
    """A reply for FastAPI to send."""
    answer = Response(reply.body, reply.status)
    answer.raw_headers.extend(reply.headers)
    return answer


def _methods(request: Request) -> set[str]:
    """Every method that this path has; HEAD where there is a GET, but not a stream's."""
    found = {method for method, path in HOT if path == request.scope["path"]}
    for route in (route for part in PARTS for route in part.routes):
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
            found |= route.methods or set()
    return found | ({"HEAD"} if "GET" in found else set()) or {"GET"}


def _document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, made once."""
    if app.openapi_schema is None:
        routes = [*documented.routes.routes, *(route for part in PARTS for route in part.routes)]
        app.openapi_schema = document_of(app, routes)
    return app.openapi_schema
