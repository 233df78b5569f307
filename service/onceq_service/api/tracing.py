"""A span for each request that makes jobs, around ApiMiddleware; it is put there only where tracing is asked for.

The span goes on with the caller's trace (`traceparent`), and the jobs that are made inside carry it to their workers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from onceq_service.tracing import TRACEPARENT, context_of, traceparent_of

_REPLAY: Final = re.compile(r"/v1/jobs/[^/]+/replay")
_LOCATION: Final = re.compile(r"/v1/jobs/(job_[0-9a-f]+)")


class TracingMiddleware:
    """The app behind, and what it did with posts."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self.app, self._tracer = app, tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        route = route_of(scope)
        if route is None:
            await self.app(scope, receive, send)
            return
        span = self._start(scope, route)

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                note_answer(span, message["status"], message.get("headers", ()))
            await send(message)

        token = TRACEPARENT.set(traceparent_of(span))
        try:
            await self.app(scope, receive, noted)
        finally:
            TRACEPARENT.reset(token)
            span.end()

    def _start(self, scope: Scope, route: str) -> Span:
        heads = {name: value.decode("latin-1") for name, value in scope["headers"] if name.startswith(b"trace")}
        return self._tracer.start_span(
            f"POST {route}",
            context_of(heads.get(b"traceparent", ""), heads.get(b"tracestate", "")),
            SpanKind.SERVER,
            {"http.request.method": "POST", "http.route": route, "url.scheme": scope.get("scheme", "http")},
        )


def route_of(scope: Scope) -> str | None:
    """The route of a request that makes jobs; None for every other."""
    if scope["type"] != "http" or scope["method"] != "POST":
        return None
    if scope["path"] in ("/v1/jobs", "/v1/jobs/batch"):
        return scope["path"]
    return "/v1/jobs/{job_id}/replay" if _REPLAY.fullmatch(scope["path"]) else None


def note_answer(span: Span, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Writes down how the request was answered, and which job it is about."""
    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_attribute("error.type", str(status))
        span.set_status(StatusCode.ERROR)
    found = dict(headers)
    if job := _LOCATION.fullmatch(found.get(b"location", b"").decode("latin-1")):
        span.set_attribute("onceq.job.id", job[1])
        span.set_attribute("onceq.job.known", found.get(b"idempotent-replayed") == b"true")
