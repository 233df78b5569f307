"""What each method of a client does, as flows without I/O: which calls, in which order, and what comes back."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, TypedDict
from urllib.parse import quote

import httpx2
from pydantic import JsonValue, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from onceq._http import PATIENT, Backoff, Call, Flow, error_of, exchange, problem_error, read, refused
from onceq.errors import (
    APIError,
    BadRequestError,
    ConfigurationError,
    ConnectionFailed,
    JobCancelled,
    JobError,
    JobExpired,
    JobFailed,
    OnceqError,
    WaitTimeout,
)
from onceq.wire import (
    IDEMPOTENCY_KEY_PATTERN,
    MAX_BATCH,
    MAX_BODY_BYTES,
    TERMINAL,
    Band,
    BatchAnswer,
    BatchItem,
    Health,
    Job,
    JobPage,
    JobRequest,
    LedgerEntry,
    Message,
    Problem,
    ResponseFormat,
    Stats,
    SubmittedJob,
    Tool,
    ToolChoice,
)

DEDUPE_WINDOW_S: Final = 600
"""Seconds in which an equal request joins the same job; the service's own default for a request without a key."""
LONGEST_POLL_S: Final = 30.0
POLL_PACE_S: Final = 0.5
"""A service that answers a long poll at once is asked again after this many seconds, not in a busy loop."""

Prompt = str | Sequence[Message | Mapping[str, Any]]
"""What to ask: a text, or the turns of a conversation as `Message` or plain dicts of the same fields."""
Ledger = list[LedgerEntry]
Item = str | JobRequest | BatchItem | Mapping[str, Any]
"""One job of a batch: a prompt, a whole request, or a dict of `JobRequest` fields and `idempotency_key`."""


class JobOptions(TypedDict, total=False):
    """The fields of `JobRequest` beside model and prompt; what is left out, the service decides."""

    system: str
    max_tokens: int | None
    temperature: float | None
    stop: Sequence[str] | None
    tools: Sequence[Tool | Mapping[str, Any]] | None
    tool_choice: Literal["auto", "none", "required"] | ToolChoice | Mapping[str, str] | None
    response_format: ResponseFormat | Mapping[str, Any] | None
    params: Mapping[str, JsonValue] | None
    band: Band
    deadline_s: float | None
    max_calls: int | None
    on_crash: Literal["retry", "fail"] | None
    on_break: Literal["retry", "fail"] | None
    dedupe_window_s: int | None
    fresh: bool
    user: str | None
    team: str | None
    labels: Mapping[str, str] | None


@dataclass(frozen=True, slots=True)
class Submission:
    """One checked request and the key under which it is sent, however often that takes."""

    body: bytes
    key: str

    @property
    def call(self) -> Call:
        """`POST /v1/jobs`."""
        headers = {"idempotency-key": self.key, "content-type": "application/json"}
        return Call("POST", "/v1/jobs", headers=headers, content=self.body)


def prepare(prompt: Prompt, model: str | None, key: str | None, options: JobOptions) -> Submission:
    """Check a request before it is sent. Raises BadRequestError; ConfigurationError when there is no model.

    A key of our own making covers our retries only, so the window that joins equal requests is sent beside it;
    a key given by the caller is the caller's own word on what is the same, and no window is added.
    """
    if model is None:
        raise ConfigurationError("no model: pass model='<provider>/<model>' here or to the client.")
    fields: dict[str, Any] = {"model": model, **_asked(prompt), **_given(options)}
    if key is None:
        fields.setdefault("dedupe_window_s", DEDUPE_WINDOW_S)
    return Submission(_checked(fields), _checked_key(key) if key is not None else new_key())


def new_key() -> str:
    """An Idempotency-Key that nobody else has."""
    return uuid.uuid4().hex


def submit(submission: Submission, backoff: Backoff) -> Flow[SubmittedJob]:
    """Post the job; every retry carries the same key, so there is one job however many posts arrive."""
    return read(SubmittedJob, (yield from exchange(submission.call, backoff)))


def get(job_id: str, backoff: Backoff) -> Flow[Job]:
    """The job as it stands."""
    return read(Job, (yield from exchange(Call("GET", job_path(job_id)), backoff)))


def cancel(job_id: str, backoff: Backoff) -> Flow[Job]:
    """Ask for the job's end; one that has ended stays as it is."""
    return read(Job, (yield from exchange(Call("POST", job_path(job_id, "cancel")), backoff)))


def ledger(job_id: str, backoff: Backoff) -> Flow[Ledger]:
    """What was booked for the job, a row a try."""
    return read(Ledger, (yield from exchange(Call("GET", job_path(job_id, "ledger")), backoff)))


def stats(backoff: Backoff) -> Flow[Stats]:
    """The tenant now and over its last 24 hours."""
    return read(Stats, (yield from exchange(Call("GET", "/v1/stats"), backoff)))


def health() -> Flow[Health]:
    """`GET /readyz`, once: a service that says it is not ready is an answer, not an error."""
    outcome = yield Call("GET", "/readyz", read_timeout_s=5.0)
    if not isinstance(outcome, httpx2.Response):
        raise error_of(outcome) from outcome
    try:
        return Health.model_validate_json(outcome.content)
    except ValidationError as exc:
        raise error_of(outcome) from exc


def wait(job_id: str, timeout_s: float | None) -> Flow[Job]:
    """Long-poll until the job has ended, over restarts of the service. Raises WaitTimeout."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    pause_s = 0.0
    while True:
        asked_at = time.monotonic()
        job = yield from _poll(job_id, _left_s(deadline, asked_at + pause_s), pause_s)
        if job.status in TERMINAL:
            return job
        now = time.monotonic()
        if deadline is not None and now >= deadline:
            raise WaitTimeout(f"job {job_id} is still {job.status} after {timeout_s:g} s; it goes on: wait again.")
        pause_s = max(0.0, min(asked_at + POLL_PACE_S - now, _left_s(deadline, now)))


def _left_s(deadline: float | None, now: float) -> float:
    return LONGEST_POLL_S if deadline is None else min(LONGEST_POLL_S, max(0.0, deadline - now))


def _poll(job_id: str, poll_s: float, pause_s: float) -> Flow[Job]:
    whole_s = int(poll_s)
    call = Call("GET", job_path(job_id), {"wait": str(whole_s)}, read_timeout_s=whole_s + 15, after_s=pause_s)
    return read(Job, (yield from exchange(call, PATIENT)))


def succeeded(job: Job) -> Job:
    """The job itself when it has its answer; raises JobFailed, JobCancelled or JobExpired when it ended without."""
    error = _ENDED_WITHOUT.get(job.status)
    if error is not None:
        raise error(job)
    return job


_ENDED_WITHOUT: Final[dict[str, type[JobError]]] = {
    "failed": JobFailed,
    "cancelled": JobCancelled,
    "expired": JobExpired,
}


def page(filters: Mapping[str, str], cursor: str | None, backoff: Backoff) -> Flow[JobPage]:
    """One page of jobs, newest first."""
    params = {**filters, "cursor": cursor} if cursor else filters
    return read(JobPage, (yield from exchange(Call("GET", "/v1/jobs", params=params), backoff)))


def filters(
    status: str | None, team: str | None, model: str | None, since: datetime | None, page_size: int | None
) -> dict[str, str]:
    """The query of a job list; a `since` without a zone is local time, as everywhere in Python."""
    given = {
        "status": status,
        "team": team,
        "model": model,
        "since": since.astimezone().isoformat() if since else None,
        "limit": str(page_size) if page_size else None,
    }
    return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Pack:
    """Items of a batch that travel in one post."""

    items: tuple[bytes, ...]

    @property
    def call(self) -> Call:
        """`POST /v1/jobs/batch`; each item carries its own key."""
        body = b'{"items":[' + b",".join(self.items) + b"]}"
        return Call("POST", "/v1/jobs/batch", headers={"content-type": "application/json"}, content=body)


def prepare_batch(items: Iterable[Item], model: str | None, options: JobOptions) -> list[Pack]:
    """Check all items before any is sent, and pack them into as few posts as the service's limits allow."""
    packs: list[Pack] = []
    pack: list[bytes] = []
    size = 0
    for item in [_checked_item(item, model, options) for item in items]:
        if pack and (len(pack) == MAX_BATCH or size + len(item) > MAX_BODY_BYTES - 16):
            packs.append(Pack(tuple(pack)))
            pack, size = [], 0
        pack.append(item)
        size += len(item) + 1
    return [*packs, Pack(tuple(pack))] if pack else packs


def submit_batch(packs: Sequence[Pack], backoff: Backoff) -> Flow[list[SubmittedJob | OnceqError]]:
    """Post the packs one after the other; what became of each item, in order.

    Once one pack has been accepted its jobs must reach the caller, so a later pack that fails as a whole is an error
    of each of its items.
    """
    done: list[SubmittedJob | OnceqError] = []
    for pack in packs:
        try:
            answer = read(BatchAnswer, (yield from exchange(pack.call, backoff)))
        except OnceqError as exc:
            if not done:
                raise
            done += [exc] * len(pack.items)
        else:
            done += [item.job or problem_error(item.problem or _NO_ANSWER) for item in answer.items]
    return done


_NO_ANSWER: Final = Problem(
    title="No answer", status=500, code="unexpected_answer", detail="The service said nothing about this item."
)


def job_path(job_id: str, *rest: str) -> str:
    """The path of a job; whatever the id holds stays one segment."""
    return "/".join(("/v1/jobs", quote(job_id, safe=""), *rest))


def lost_touch(job_id: str, position: int, error: APIError | ConnectionFailed) -> str:
    """What StreamLost says."""
    return (
        f"lost touch with job {job_id} after event {position}: {error} "
        f"The job goes on; client.follow({job_id!r}, after={position}) carries on from here."
    )


def _asked(prompt: Prompt) -> dict[str, Any]:
    return {"prompt": prompt} if isinstance(prompt, str) else {"messages": list(prompt)}


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _checked(fields: Mapping[str, Any]) -> bytes:
    body = _encoded(fields)
    try:
        JobRequest.model_validate_json(body)
    except ValidationError as exc:
        raise refused(exc) from exc
    return body


def _encoded(fields: Mapping[str, Any]) -> bytes:
    try:
        return to_json(fields, exclude_none=True)
    except PydanticSerializationError as exc:
        detail = f"The request holds a value that JSON has no form for: {exc}. Nothing was sent."
        raise BadRequestError(
            Problem(title="Invalid request", status=422, code="invalid_request", detail=detail)
        ) from exc


def _checked_key(key: str) -> str:
    if not re.fullmatch(IDEMPOTENCY_KEY_PATTERN, key):
        detail = "An idempotency key is 1 to 255 printable ASCII characters without a space. Nothing was sent."
        raise BadRequestError(
            Problem(title="Malformed key", status=400, code="malformed_idempotency_key", detail=detail)
        )
    return key


def _checked_item(item: Item, model: str | None, options: JobOptions) -> bytes:
    fields = _given({"model": model, **options, **_item_fields(item)})
    key = fields.pop("idempotency_key", None)
    if key is None:
        fields.setdefault("dedupe_window_s", DEDUPE_WINDOW_S)
    _checked(fields)
    return _encoded({"idempotency_key": new_key() if key is None else _checked_key(key), "job": fields})


def _item_fields(item: Item) -> Mapping[str, Any]:
    if isinstance(item, str):
        return {"prompt": item}
    if isinstance(item, BatchItem):
        return {**_item_fields(item.job), "idempotency_key": item.idempotency_key}
    if isinstance(item, JobRequest):
        return item.model_dump(exclude_unset=True, by_alias=True)
    return item
