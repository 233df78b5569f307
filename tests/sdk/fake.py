"""A scripted stand-in for the service on a real socket, and values that look like its answers.

It keeps what it was sent (`seen`) and answers each route with what a test has lined up: the last answer of a line is
given again and again. Event logs honour `Last-Event-ID`; `cuts` breaks their connections in the middle.
"""

from __future__ import annotations

import json
import socket
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

JOB_ID = "job_" + "0" * 31 + "1"
Log = Sequence[tuple[str, dict[str, Any]]]
"""Events as (name, payload), numbered from 1 as they stand; a snapshot takes no number."""


def job(status: str = "queued", text: str | None = None, job_id: str = JOB_ID, **more: Any) -> dict[str, Any]:
    """A job's JSON."""
    base = f"/v1/jobs/{job_id}"
    output = None if text is None else {"text": text, "finish_reason": "stop" if status == "succeeded" else None}
    urls = {"self": base, "events": f"{base}/events", "cancel": f"{base}/cancel"}
    created_at = "2026-11-23T12:00:00Z"
    return {
        "id": job_id, "status": status, "model": "openai/gpt-4o-mini", "created_at": created_at,
        "output": output, "urls": urls, **more,
    }  # fmt: skip


def deltas(*pieces: str, call: int = 1) -> list[tuple[str, dict[str, Any]]]:
    """Text deltas."""
    return [("delta", {"call": call, "kind": "text", "text": piece}) for piece in pieces]


def whole_log(*pieces: str) -> Log:
    """The log of a job that went well."""
    end = {"status": "succeeded", "finish_reason": "stop", "usage": {"input_tokens": 3, "output_tokens": len(pieces)}}
    return [("queued", {}), ("started", {"call": 1}), *deltas(*pieces), ("succeeded", end)]


def frames(log: Log, after: int = 0, job_id: str = JOB_ID) -> list[bytes]:
    """The log as SSE frames from behind `after`, with a keep-alive comment in between."""
    out: list[bytes] = [b": keep-alive\n\n"]
    seq = 0
    for name, payload in log:
        if name == "snapshot":
            out.append(f"event: snapshot\ndata: {json.dumps({'job': job_id, **payload})}\n\n".encode())
            continue
        seq += 1
        if seq > after:
            data = json.dumps({"job": job_id, "seq": seq, **payload}, ensure_ascii=False)
            out.append(f"id: {seq}\nevent: {name}\ndata: {data}\n\n".encode())
    return out


def answer(body: object, status: int = 200, **headers: str) -> Response:
    """A JSON answer."""
    return JSONResponse(body, status, headers={k.replace("_", "-"): v for k, v in headers.items()})


def accepted(disposition: str = "created", **more: Any) -> Response:
    """A 202."""
    return answer({**job(**more), "disposition": disposition}, 202)


def accept_all(seen: Seen) -> Response:
    """To a batch: each item is a new job."""
    items = [{"job": {**job(job_id=f"job_{i}"), "disposition": "created"}} for i, _ in enumerate(seen.json["items"])]
    return answer({"items": items})


def problem(status: int, code: str, retry_after: str | None = None) -> Response:
    """An error as the service words it."""
    headers = {} if retry_after is None else {"retry-after": retry_after}
    body = {"title": "No", "status": status, "code": code, "detail": f"This was {code}."}
    return JSONResponse(body, status, headers=headers, media_type="application/problem+json")


def lost(_: Seen) -> Response:
    """Does what it was asked, and breaks off in the answer."""
    return StreamingResponse(_body(b"{}", 1), media_type="application/json")


@dataclass
class Seen:
    """A request that arrived."""

    route: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Answer = Response | Callable[[Seen], Response]


@dataclass
class FakeService:
    """Line up answers with `on` and `log`; ask `seen` afterwards."""

    url: str = ""
    seen: list[Seen] = field(default_factory=list[Seen])
    lines: dict[str, list[Answer]] = field(default_factory=lambda: defaultdict(list))

    def on(self, route: str, *answers: Answer) -> None:
        """Answer `route` (`"GET /v1/jobs/{id}"`) with these, one a request."""
        self.lines[route] = list(answers)

    def log(self, log: Log, cuts: Sequence[int] = (), route: str = "GET /v1/jobs/{id}/events") -> None:
        """Serve a job's events, or a batch's; connection number n is cut after `cuts[n]` bytes."""
        left = list(cuts)

        def events(seen: Seen) -> Response:
            after = int(seen.headers.get("last-event-id", "0"))
            total = sum(1 for name, _ in log if name != "snapshot")
            if after >= total:
                return Response(status_code=204)
            body = _body(b"".join(frames(log, after)), left.pop(0) if left else None)
            return StreamingResponse(body, media_type="text/event-stream")

        self.on(route, events)

    def to(self, route: str) -> list[Seen]:
        """The requests that went to `route`."""
        return [seen for seen in self.seen if seen.route == route]

    async def handle(self, request: Request) -> Response:
        route = f"{request.method} {request.scope['route'].path}"
        body = await request.body()
        seen = Seen(route, request.url.path, dict(request.query_params), request.headers, body)
        self.seen.append(seen)
        line = self.lines[route]
        if not line:
            return problem(500, "not_scripted")
        found = line.pop(0) if len(line) > 1 else line[0]
        return found if isinstance(found, Response) else found(seen)


class CutError(Exception):
    """Raised inside a body so that the server drops the connection."""


async def _body(data: bytes, cut: int | None) -> AsyncIterator[bytes]:
    yield data if cut is None else data[:cut]
    if cut is not None:
        raise CutError


ROUTES = (
    "POST /v1/jobs",
    "POST /v1/quote",
    "POST /v1/jobs/batch",
    "POST /v1/jobs/replay",
    "GET /v1/jobs",
    "GET /v1/jobs/{id}",
    "GET /v1/jobs/{id}/events",
    "GET /v1/jobs/{id}/ledger",
    "POST /v1/jobs/{id}/cancel",
    "GET /v1/events",
    "POST /v1/batches/{id}/cancel",
    "GET /v1/stats",
    "GET /v1/costs",
    "DELETE /v1/budgets/{id}",
    "DELETE /v1/keys/{id}",
    "GET /readyz",
)


@contextmanager
def running(service: FakeService) -> Generator[FakeService]:
    """Serve on a free port until the block is left."""
    app = Starlette(routes=[Route(p, service.handle, methods=[m]) for m, p in (r.split() for r in ROUTES)])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        service.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield service
        finally:
            server.should_exit = True
            thread.join()
