"""What the tests of the API share: clients of a running stack, raw HTTP, problems, event streams."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import urlsplit
from uuid import uuid4

import httpx2
import msgspec

from onceq.wire import Event, Job, Problem, Scope
from tests.stack import Process, Stack, clean_environment, fork_server
from tests.waiting import wait_until

MODEL: Final = "openai/gpt-4o-mini"
JOBS: Final = "/v1/jobs"
JSON: Final = {"content-type": "application/json"}
SECRET: Final = "sesame"
"""What tests put where a person's words would be: it may be in no log and no problem."""


def ask(words: str = "", **knobs: object) -> dict[str, Any]:
    """A request that no other test makes, answered at once with 5 tokens, or as the simulator is told."""
    told = " ".join(f"{name}={value}" for name, value in ({"tokens": 5, "tps": 0, "ttft_ms": 0} | knobs).items())
    return {"model": MODEL, "prompt": f"{SECRET} {words} {uuid4().hex} [[sim {told}]]"}


class Http(httpx2.Client):
    """A client of one API process with one key."""

    def __init__(self, url: str, key: str, **says: Any) -> None:
        super().__init__(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=60, **says)

    def post_json(self, body: object, **headers: str) -> httpx2.Response:
        """POST /v1/jobs; `idempotency_key="k"` is a header."""
        content = body if isinstance(body, bytes) else msgspec.json.encode(body)
        sent = JSON | {name.replace("_", "-"): value for name, value in headers.items()}
        return self.post(JOBS, content=content, headers=sent)

    def submit(self, body: object, **headers: str) -> dict[str, Any]:
        """The 202's body; fails when the post was refused."""
        answer = self.post_json(body, **headers)
        assert answer.status_code == 202, answer.text
        return answer.json()

    def job(self, job_id: str, *, wait: float = 0) -> Job:
        """The job, with `wait` at its end if that comes in time."""
        answer = self.get(f"{JOBS}/{job_id}", params={"wait": wait})
        assert answer.status_code == 200, answer.text
        return Job.model_validate_json(answer.content)

    def done(self, body: object, **headers: str) -> Job:
        """Submits and waits for the end; fails when it does not come."""
        job = self.job(self.submit(body, **headers)["id"], wait=60)
        assert job.finished_at is not None, f"job {job.id} did not end: {job.status}, {job.waiting}"
        return job

    def ids(self, **where: str) -> list[str]:
        """The newest jobs of the tenant."""
        return [job["id"] for job in self.get(JOBS, params=where).json()["jobs"]]

    def read(self, job_id: str, after: int = 0) -> list[Frame]:
        """A job's events behind `after`, to the end of the stream."""
        headers = {"last-event-id": str(after)} if after else {}
        answer = self.get(f"{JOBS}/{job_id}/events", headers=headers)
        assert answer.status_code == 200, answer.text
        return list(frames(answer.text))


def http(stack: Stack, tenant: str = "default", *scopes: Scope, url: str = "") -> Http:
    """A client of the stack's API (or of the replica at `url`) with a key of a tenant."""
    return Http(url or stack.url, stack.key(tenant, *scopes))


@dataclass(frozen=True)
class Frame:
    """One event as a reader gets it; `id` None where it has no number."""

    id: int | None
    name: str
    data: Event
    raw: str


def frames(text: str) -> Iterator[Frame]:
    """The events of a stream's text; comments are passed over."""
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line and not line.startswith(":"))
        if fields:
            number = int(fields["id"]) if "id" in fields else None
            yield Frame(number, fields["event"], Event.model_validate_json(fields["data"]), block)


def text_of(events: list[Frame]) -> str:
    """The answer's text as a reader puts it together."""
    text = ""
    for event in events:
        if event.name == "reset":
            text = ""
        elif event.name == "snapshot" and event.data.output is not None:
            text = event.data.output.text
        elif event.name == "delta" and event.data.kind == "text":
            text += event.data.text
    return text


def problem_of(answer: httpx2.Response | Raw, status: int, code: str) -> Problem:
    """Checks that an answer is this problem: of its media type, whole, and without a word of the request."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = Problem.model_validate_json(answer.content)
    assert (problem.status, problem.code) == (status, code)
    assert problem.title
    assert problem.detail.endswith("."), "what happened and what to do, in sentences"
    assert SECRET not in answer.text, "a problem does not repeat what was sent"
    assert "Traceback" not in answer.text
    return problem


@dataclass(frozen=True)
class Raw:
    """An answer that was read from a socket by hand."""

    status_code: int
    headers: dict[str, str]
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode("utf-8", "replace")


def connect(url: str, *, window: int = 0) -> socket.socket:
    """A connection to the API; `window` is how many bytes it takes without being read, by default the system's."""
    parts = urlsplit(url)
    link = socket.socket()
    link.settimeout(30)
    if window:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    link.connect((parts.hostname or "", parts.port or 80))
    return link


def stuck_reader(url: str, key: str, job_id: str) -> socket.socket:
    """A connection with a small window that asks for a stream and does not read."""
    link = connect(url, window=4096)
    link.sendall(f"GET {JOBS}/{job_id}/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\r\n".encode())
    return link


def send_raw(url: str, sent: bytes, *, leave: bool = False) -> bytes:
    """Sends bytes and reads what comes until the server closes; with `leave`, the client has closed its side before."""
    with connect(url) as link:
        link.sendall(sent)
        if leave:
            link.shutdown(socket.SHUT_WR)
        got = b""
        while data := link.recv(65536):
            got += data
        return got


def raw(url: str, sent: bytes) -> Raw:
    """The answer to bytes that ask for the connection to be closed, or are such that it is."""
    head, _, body = send_raw(url, sent).partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    pairs = (line.split(": ", 1) for line in lines[1:])
    return Raw(int(lines[0].split(" ")[1]), {name.lower(): value for name, value in pairs}, body)


def start_api(stack: Stack, code: str, log: str, **settings: str) -> Process:
    """An API of the stack that a script starts, forked like the others (tests/fork_server.py); `settings` as there."""
    env = clean_environment() | stack.env | {f"ONCEQ_{name.upper()}": value for name, value in settings.items()}
    path = stack.folder / log
    return Process(fork_server().start(["-c", code], env, path), path)


def own_lane(tenant: str) -> dict[str, str]:
    """A model of a test's own, with a price: what holds up its lane holds up no other test."""
    return {"model": f"anthropic/claude-haiku-4-5-{tenant}"}


def switch(client: Http, word: Literal["pause", "resume"], body: dict[str, Any]) -> None:
    """Holds up the lane of a request, or lets it go on."""
    answer = client.post(f"/v1/lanes/{word}", json={"lane": body["model"]})
    assert answer.status_code == 200, answer.text


def read_until(pieces: Iterator[str], enough: Callable[[str], bool], what: str, *, timeout_s: float = 30.0) -> str:
    """What a stream that keeps itself alive says until it is enough; the last of it may be half an event."""
    end, said = time.monotonic() + timeout_s, ""
    for piece in pieces:
        said += piece
        if enough(said):
            return said
        assert time.monotonic() < end, f"waited {timeout_s} s for {what}:\n{said}"
    raise AssertionError(f"the stream ended before {what}:\n{said}")


def meter_of(stack: Stack, job_id: str, found: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
    """The job's one call at the simulator, once it is as it is waited for."""

    def look() -> dict[str, Any] | None:
        calls = stack.meter(job_id)
        assert len(calls) <= 1, calls
        return calls[0] if calls and found(calls[0]) else None

    return wait_until(look, what)
