"""A small API on loopback that serves what the wire models say, for one key; what it serves can be changed any time."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import streamlit as st
from pydantic import BaseModel

from onceq.wire import (
    BANDS,
    ApiKeyInfo,
    ApiKeyList,
    ApiKeyRequest,
    BatchAnswerItem,
    BudgetChange,
    BudgetList,
    BudgetRequest,
    BudgetStatus,
    BudgetUse,
    CostPoint,
    Costs,
    Health,
    Job,
    JobError,
    JobPage,
    JobRequest,
    Lanes,
    LedgerEntry,
    NewApiKey,
    Problem,
    ReplayAnswer,
    ReplayRequest,
    Scope,
    Stats,
    SubmittedJob,
    Switch,
    allows,
)

KEY = "oq_test_key"
DIMENSIONS = ("team", "model", "provider", "band", "key", "labels")
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
    budgets: list[BudgetStatus] = field(default_factory=list[BudgetStatus])
    keys: list[ApiKeyInfo] = field(default_factory=list[ApiKeyInfo])
    asked: dict[str, JobRequest] = field(default_factory=dict[str, JobRequest])
    events: dict[str, bytes] = field(default_factory=dict[str, bytes])


@dataclass
class FakeApi:
    """The running API. `scopes` are those of `KEY`.

    `seen` are the requests that came, as "GET /v1/stats". The path `refused` is answered with a 503.
    The first `barren` pages of jobs are empty and say to go on. `cut` connections had no answer.
    """

    world: World
    scopes: set[Scope] = field(default_factory=lambda: {"read", "cancel"})
    url: str = ""
    seen: list[str] = field(default_factory=list[str])
    refused: str = ""
    barren: int = 0
    cut: int = 0
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
        path, fields = urlsplit(target).path, parse_qs(urlsplit(target).query)
        query, by = {name: values[0] for name, values in fields.items()}, fields.get("group_by", [])
        if path == "/readyz":
            return 503 if self.world.health.status == "unavailable" else 200, self.world.health
        if key != KEY:
            return problem(401, "unauthorized", "This API key is not known.")
        if path == self.refused:
            return problem(503, "store_unavailable", "Redis does not answer.")
        if path == "/v1/keys/self":
            return 200, self._own_key()
        needed = needed_for(method, path)
        if not allows(self.scopes, needed):
            return problem(403, "forbidden", f"This key lacks the scope {needed}.")
        return self._act(method, path, body) if body or method == "DELETE" else self._read(path, query, by)

    def _own_key(self) -> ApiKeyInfo:
        scopes, at = sorted(self.scopes), self.world.stats.at
        return ApiKeyInfo(id="key_1", tenant="acme", name="this test's", scopes=scopes, created_at=at)

    def _act(self, method: str, path: str, body: bytes) -> Answered:
        first, _, rest = path.removeprefix("/v1/").partition("/")
        match first:
            case "lanes":
                return 200, self._switched(rest, Switch.model_validate_json(body))
            case "budgets":
                return self._budget(method, rest, body)
            case "keys":
                return self._key(method, rest, body)
            case _:
                assert path == "/v1/jobs/replay", path
                return 200, self._replayed_all(ReplayRequest.model_validate_json(body))

    def _switched(self, word: str, what: Switch) -> Lanes:
        lanes = self.world.lanes
        held = [x.model_copy(update={"paused": word == "pause"}) if x.lane == what.lane else x for x in lanes.lanes]
        bands = {*lanes.paused_bands, *filter(None, [what.band])} - ({what.band} if word == "resume" else set())
        self.world.lanes = Lanes(lanes=held, paused_bands=[b for b in BANDS if b in bands])
        return self.world.lanes

    def _budget(self, method: str, budget_id: str, body: bytes) -> Answered:
        others = [b for b in self.world.budgets if b.id != budget_id]
        old = next((b for b in self.world.budgets if b.id == budget_id), None)
        if method == "DELETE":
            self.world.budgets = others
            return 204, self._own_key()
        if old is not None:
            change = BudgetChange.model_validate_json(body)
            made = old.model_copy(update={"limit_nano_usd": round((change.limit_usd or 0) * 1e9), "mode": change.mode})
        else:
            wanted = BudgetRequest.model_validate_json(body)
            if any(b.name == wanted.name for b in others):
                return problem(409, "budget_exists", f"There is a budget named {wanted.name!r} already.")
            nano = round(wanted.limit_usd * 1e9)
            kept = wanted.model_dump(exclude={"limit_usd", "tenant"})
            made = BudgetStatus(id=f"bud_{uuid4().hex[:20]}", tenant="acme", source="api", limit_nano_usd=nano,
                                limit_usd=str(wanted.limit_usd), use=BudgetUse(left_nano_usd=nano), **kept)  # fmt: skip
        self.world.budgets = [*others, made]
        return 200 if old else 201, made

    def _key(self, method: str, key_id: str, body: bytes) -> Answered:
        if method == "DELETE":
            self.world.keys = [key for key in self.world.keys if key.id != key_id]
            return 204, self._own_key()
        wanted = ApiKeyRequest.model_validate_json(body)
        made = ApiKeyInfo(
            id="key_new", tenant="acme", name=wanted.name, scopes=wanted.scopes, created_at=datetime.now(UTC)
        )
        self.world.keys = [*self.world.keys, made]
        return 201, NewApiKey(**made.model_dump(), secret="oq_new_secret")

    def _replayed_all(self, wanted: ReplayRequest) -> ReplayAnswer:
        query = {"status": wanted.status, "replayed": "false"} | wanted.model_dump(
            include={"error", "model", "team"}, exclude_none=True
        )
        fitting = [j for j in self.world.jobs if self._fits(j, query)]
        asked = fitting[: wanted.limit]
        items = [BatchAnswerItem(job=self._replayed(j)) for j in asked]
        return ReplayAnswer(items=items, more=len(fitting) > len(asked))

    def _read(self, path: str, query: dict[str, str], by: list[str]) -> Answered:
        whole: dict[str, Callable[[], BaseModel]] = {
            "/v1/stats": lambda: self.world.stats,
            "/v1/lanes": lambda: self.world.lanes,
            "/v1/costs": lambda: self._costs(query, by),
            "/v1/budgets": lambda: BudgetList(at=self.world.stats.at, budgets=self.world.budgets),
            "/v1/keys": lambda: ApiKeyList(keys=[self._own_key(), *self.world.keys]),
        }
        if path in whole:
            return 200, whole[path]()
        return self._page(query) if path == "/v1/jobs" else self._one(path)

    def _costs(self, query: dict[str, str], by: list[str]) -> Costs:
        """The points between `since` and `until`, without the dimensions that were not asked for."""
        points = self.world.stats.hours if query["interval"] == "hour" else self.world.days
        at = self.world.stats.at
        since, until = (datetime.fromisoformat(query[n]) if n in query else None for n in ("since", "until"))
        step = timedelta(hours=1) if query["interval"] == "hour" else timedelta(days=1)
        shown = [p for p in points if (not since or p.at + step > since) and (not until or p.at <= until)]
        blank = {
            name: CostPoint.model_fields[name].get_default(call_default_factory=True)
            for name in DIMENSIONS
            if name not in by
        }
        again = "restated_at" in query
        shown = [
            p.model_copy(update=blank | {"restated_nano_usd": p.totals.spent_nano_usd // 2 if again else None})
            for p in shown
        ]
        return Costs.model_validate(
            {"since": at, "until": at, "interval": query["interval"], "group_by": by, "points": shown}
        )

    def _page(self, query: dict[str, str]) -> Answered:
        filtered = set(query) - {"limit", "cursor"}
        fitting = [j for j in self.world.jobs if self._fits(j, query)] if filtered else self.world.jobs
        start, limit = int(query.get("cursor", "0")), int(query.get("limit", "50"))
        more = str(start + limit) if len(fitting) > start + limit else None
        if start < self.barren:
            more, back = str(start + 1), self.world.stats.at - timedelta(days=1)
            return 200, JobPage(jobs=[], next_cursor=more, looked_at=5_000, looked_back_to=back)
        return 200, JobPage(jobs=list(fitting[start : start + limit]), next_cursor=more)

    @staticmethod
    def _fits(job: Job, query: dict[str, str]) -> bool:
        code = job.error.code if job.error else None
        asked_again = str(job.replayed_by is not None).lower()
        has = {"status": job.status, "model": job.model, "team": job.team, "error": code, "replayed": asked_again,
               "user": job.user, "band": job.band, "verdict": job.timings.verdict if job.timings else None}  # fmt: skip
        name, _, value = query.get("label", "").partition("=")
        labelled = not name or job.labels.get(name) == value
        return labelled and all(has[name] == query[name] for name in has.keys() & query.keys())

    def _one(self, path: str) -> Answered:
        found = re.fullmatch(r"/v1/jobs/([^/]+)(/ledger|/cancel|/replay|/request)?", path)
        job = next((j for j in self.world.jobs if found and j.id == found[1]), None)
        if found is None or job is None:
            return problem(404, "job_not_found", "There is no such job.")
        match found[2]:
            case "/ledger":
                return 200, self.world.ledger.get(job.id, [])
            case "/request":
                asked = JobRequest(model=job.model, prompt=f"The question of job {job.id}.")
                return 200, self.world.asked.get(job.id, asked)
            case "/replay":
                return 202, self._replayed(job)
            case _:
                return 200, self._cancelled(job) if found[2] else job

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


def needed_for(method: str, path: str) -> Scope:
    """The scope that a request needs."""
    first = path.removeprefix("/v1/").partition("/")[0]
    if first == "keys":
        return "admin"
    if method == "GET":
        return "read"
    if first == "lanes":
        return "operator"
    return "admin" if first == "budgets" else "cancel" if path.endswith("/cancel") else "submit"


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

        def do_PATCH(self) -> None:
            self._send("PATCH", self.rfile.read(int(self.headers.get("Content-Length", "0"))))

        def do_DELETE(self) -> None:
            self._send("DELETE")

        def _send(self, method: str, sent: bytes = b"") -> None:
            if api.gone:
                api.cut += 1
                self.close_connection = True
                return
            key = self.headers.get("Authorization", "").removeprefix("Bearer ")
            status, answer = api.answer(method, self.path, key, sent)
            body = b"" if status == 204 else body_of(answer)
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
