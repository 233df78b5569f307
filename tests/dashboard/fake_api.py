"""A small API on loopback that serves what the wire models say, for one key; what it serves can be changed any time."""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import streamlit as st
from pydantic import BaseModel

from onceq.wire import (
    ApiKeyInfo,
    BatchAnswerItem,
    CostPoint,
    Costs,
    Health,
    Job,
    JobError,
    JobPage,
    Lanes,
    LedgerEntry,
    Problem,
    ReplayAnswer,
    ReplayRequest,
    Scope,
    Stats,
    SubmittedJob,
)

KEY = "oq_test_key"
Answered = tuple[int, BaseModel | list[LedgerEntry]]


@dataclass
class World:
    """What the API knows."""

    stats: Stats
    health: Health
    jobs: Sequence[Job] = field(default_factory=list[Job])
    ledger: dict[str, list[LedgerEntry]] = field(default_factory=dict[str, list[LedgerEntry]])
    lanes: Lanes = field(default_factory=lambda: Lanes(lanes=[]))
    days: list[CostPoint] = field(default_factory=list[CostPoint])


@dataclass
class FakeApi:
    """The running API. `scopes` are those of `KEY`.

    `seen` are the requests that came, as "GET /v1/stats". The path `refused` is answered with a 503.
    """

    world: World
    scopes: set[Scope] = field(default_factory=lambda: {"read", "cancel"})
    url: str = ""
    seen: list[str] = field(default_factory=list[str])
    refused: str = ""
    _gone: bool = False

    @contextmanager
    def away(self) -> Generator[None]:
        """Each connection is cut without an answer, until the end of the block."""
        self._gone = True
        self.forget()
        try:
            yield
        finally:
            self._gone = False
            self.forget()

    @property
    def gone(self) -> bool:
        """Whether it is away."""
        return self._gone

    @staticmethod
    def forget() -> None:
        """The dashboard keeps readings for a second: read anew now."""
        st.cache_data.clear()

    def answer(self, method: str, target: str, key: str, body: bytes = b"") -> Answered:
        """Status and body."""
        self.seen.append(f"{method} {target}")
        path, query = urlsplit(target).path, {k: v[0] for k, v in parse_qs(urlsplit(target).query).items()}
        if path == "/readyz":
            return 503 if self.world.health.status == "unavailable" else 200, self.world.health
        if key != KEY:
            return problem(401, "unauthorized", "This API key is not known.")
        if path == self.refused:
            return problem(503, "store_unavailable", "Redis does not answer.")
        if path == "/v1/keys/self":
            return 200, self._own_key()
        needed: Scope = "read" if method == "GET" else "cancel" if path.endswith("/cancel") else "submit"
        if needed not in self.scopes:
            return problem(403, "forbidden", f"This key lacks the scope {needed}.")
        return self._act(path, body) if body else self._read(path, query)

    def _own_key(self) -> ApiKeyInfo:
        scopes, at = sorted(self.scopes), self.world.stats.at
        return ApiKeyInfo(id="key_1", tenant="acme", name="this test's", scopes=scopes, created_at=at)

    def _act(self, path: str, body: bytes) -> Answered:
        assert path == "/v1/jobs/replay", path
        return 200, self._replayed_all(ReplayRequest.model_validate_json(body))

    def _replayed_all(self, wanted: ReplayRequest) -> ReplayAnswer:
        query = {"status": wanted.status, "replayed": "false"} | wanted.model_dump(
            include={"error", "model", "team"}, exclude_none=True
        )
        fitting = [j for j in self.world.jobs if self._fits(j, query)]
        asked = fitting[: wanted.limit]
        items = [BatchAnswerItem(job=self._replayed(j)) for j in asked]
        return ReplayAnswer(items=items, more=len(fitting) > len(asked))

    def _read(self, path: str, query: dict[str, str]) -> Answered:
        match path:
            case "/v1/stats":
                return 200, self.world.stats
            case "/v1/lanes":
                return 200, self.world.lanes
            case "/v1/costs":
                return 200, self._costs(query["interval"])
            case "/v1/jobs":
                return self._page(query)
            case _:
                return self._one(path)

    def _costs(self, interval: str) -> Costs:
        points = self.world.stats.hours if interval == "hour" else self.world.days
        at = self.world.stats.at
        return Costs.model_validate({"since": at, "until": at, "interval": interval, "group_by": [], "points": points})

    def _page(self, query: dict[str, str]) -> Answered:
        filtered = set(query) - {"limit", "cursor"}
        fitting = [j for j in self.world.jobs if self._fits(j, query)] if filtered else self.world.jobs
        start, limit = int(query.get("cursor", "0")), int(query.get("limit", "50"))
        more = str(start + limit) if len(fitting) > start + limit else None
        return 200, JobPage(jobs=list(fitting[start : start + limit]), next_cursor=more)

    @staticmethod
    def _fits(job: Job, query: dict[str, str]) -> bool:
        code = job.error.code if job.error else None
        asked_again = str(job.replayed_by is not None).lower()
        has = {"status": job.status, "model": job.model, "team": job.team, "error": code, "replayed": asked_again}
        return all(has[name] == query[name] for name in has.keys() & query.keys())

    def _one(self, path: str) -> Answered:
        found = re.fullmatch(r"/v1/jobs/([^/]+)(/ledger|/cancel|/replay)?", path)
        job = next((j for j in self.world.jobs if found and j.id == found[1]), None)
        if found is None or job is None:
            return problem(404, "job_not_found", "There is no such job.")
        if found[2] == "/ledger":
            return 200, self.world.ledger.get(job.id, [])
        if found[2] == "/replay":
            return 202, self._replayed(job)
        return 200, self._cancelled(job) if found[2] == "/cancel" else job

    def _replayed(self, job: Job) -> SubmittedJob:
        update = {"id": f"job_{uuid4().hex}", "status": "queued", "retry_of": job.id, "error": None, "output": None}
        again = job.model_copy(update=update)
        old = [j.model_copy(update={"replayed_by": again.id}) if j.id == job.id else j for j in self.world.jobs]
        self.world.jobs = [again, *old]
        return SubmittedJob(**again.model_dump(), disposition="created")

    def _cancelled(self, job: Job) -> Job:
        error = JobError(code="cancelled", message="The job was cancelled.")
        update = {"status": "cancelled", "finished_at": datetime.now(UTC), "error": error}
        gone = job.model_copy(update=update)
        self.world.jobs = [gone if j.id == job.id else j for j in self.world.jobs]
        return gone


def problem(status: int, code: str, detail: str) -> tuple[int, Problem]:
    """An error answer."""
    return status, Problem(title=code, status=status, code=code, detail=detail)


def body_of(answer: BaseModel | list[LedgerEntry]) -> bytes:
    """The answer as the API writes it."""
    if isinstance(answer, list):
        return json.dumps([row.model_dump(mode="json") for row in answer]).encode()
    return answer.model_dump_json().encode()


@contextmanager
def serving(world: World) -> Generator[FakeApi]:
    """The API on a free port, until the end of the block."""
    api = FakeApi(world)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send("GET")

        def do_POST(self) -> None:
            self._send("POST", self.rfile.read(int(self.headers.get("Content-Length", "0"))))

        def _send(self, method: str, sent: bytes = b"") -> None:
            if api.gone:
                self.close_connection = True
                return
            key = self.headers.get("Authorization", "").removeprefix("Bearer ")
            status, answer = api.answer(method, self.path, key, sent)
            body = body_of(answer)
            self.send_response(status)
            self.send_header("Content-Type", "application/problem+json" if status >= 400 else "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    api.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
