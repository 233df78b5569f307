"""What routes say of themselves in the OpenAPI document (document.py): problems, SSE, headers; and those that are plain
ASGI.

The functions of `routes` are never called; they stand for what submit.py, batch.py, events.py and batches.py answer.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, get_args

from fastapi import APIRouter, Depends, Header, Query, Response
from pydantic import BaseModel

from onceq.wire import IDEMPOTENCY_KEY_PATTERN, BatchAnswer, BatchRequest, EventName, Job, JobRequest, SubmittedJob
from onceq_service.api.auth import needs

Responses = dict[int | str, dict[str, Any]]

_WHY: Final[dict[int, str]] = {
    400: "Malformed: `malformed_json`, `malformed_idempotency_key`, `malformed_last_event_id`, `last_event_id_ahead`.",
    401: "No API key, or one that is not known.",
    402: "May cost too much, or nobody knows how much: `max_cost_exceeded`, `budget_exceeded` "
    "(`budget` says which, what is left, when it renews), `unpriced_model`, `unbounded_cost`.",
    403: "The API key lacks the scope.",
    404: "No such thing for this API key (another tenant's looks the same).",
    409: "Not in a state for this: `job_not_ended`; `budget_exists`, `budget_read_only`, `too_many_budgets`; "
    "`too_many_keys`.",
    413: "The body is too large.",
    415: "The body is not sent as application/json.",
    422: "Not valid: `errors` says where. Or `unknown_model`, `provider_not_served`, `idempotency_key_reused`.",
    501: "This process has no pyarrow: `parquet_unavailable`.",
    503: "Redis is away or full; nothing was stored. Try again after Retry-After seconds.",
}
RETRY_AFTER: Final = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait."}}
_CHALLENGE: Final = {"WWW-Authenticate": {"schema": {"type": "string"}, "description": "How to send a key."}}
_HEADERS: Final = {401: _CHALLENGE, 503: RETRY_AFTER}
_ETAG: Final = {"ETag": {"schema": {"type": "string"}, "description": "Changes with whatever is shown of the job."}}
TAGGED: Final[Responses] = {
    200: {
        "description": "The job. Retry-After says when to ask again, while it has not ended.",
        "headers": _ETAG | RETRY_AFTER,
    },
    304: {"description": "Nothing has changed since If-None-Match.", "headers": _ETAG},
}
CANCEL_TOLD: Final[Responses] = {202: {"model": Job, "description": "Its worker has been told and is letting go."}}
MOMENT: Final = "like 2026-11-30T16:20:00Z"
RESTATED: Final = f"Adds what the same tokens would cost at the prices of this time, {MOMENT}; what was booked stays."
IN_PATHS: Final = {
    "job_id": "The job's id, of its 202.",
    "batch_id": "The batch's id, as it was posted.",
    "budget_id": "The budget's id, of `GET /v1/budgets`.",
    "key_id": "The API key's id, of `GET /v1/keys`: not the key itself.",
}
"""What stands for what in the paths of routes."""
REQUEST_HEADERS: Final = (
    "Authorization", "X-API-Key", "Content-Type", "Idempotency-Key", "Last-Event-ID", "If-None-Match",
    "Traceparent", "Tracestate",
)  # fmt: skip
"""What a page of another origin may send."""
ANSWER_HEADERS: Final = (
    "Location", "Idempotent-Replayed", "Retry-After", "ETag", "Link", "Allow", "WWW-Authenticate",
)  # fmt: skip
"""What it may read."""


def problems(*statuses: int) -> Responses:
    """The problems that a route may answer with, for `responses=`."""
    return {status: _problem(status) for status in statuses}


def _problem(status: int) -> dict[str, Any]:
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    headers = {"headers": _HEADERS[status]} if status in _HEADERS else {}
    return {"description": _WHY[status], "content": content, **headers}


routes = APIRouter(tags=["jobs"])
ACCEPTED: Final[Responses] = {
    202: {
        "model": SubmittedJob,
        "description": "The job is durable.",
        "headers": {
            "Location": {"schema": {"type": "string"}, "description": "The job's URL."},
            "Idempotent-Replayed": {
                "schema": {"type": "string", "enum": ["true", "false"]},
                "description": "Whether this job was there before.",
            },
        },
    }
}
_EXAMPLES: Final = {
    "prompt": {"value": {"model": "openai/gpt-4o-mini", "prompt": "Name three rivers."}},
    "conversation": {
        "value": {
            "model": "anthropic/claude-haiku-4-5",
            "system": "Answer in one word.",
            "messages": [{"role": "user", "content": "The capital of France?"}],
            "max_tokens": 20,
            "team": "search",
        }
    },
}
_KEY: Final = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": IDEMPOTENCY_KEY_PATTERN}
IDEMPOTENT: Final = {
    "parameters": [
        {
            "name": "Idempotency-Key", "in": "header", "schema": _KEY,
            "description": "Any number of posts with the same key make one job, for 24 h after its end.",
        }
    ]
}  # fmt: skip
"""`openapi_extra` for a route that reads the key itself."""


@routes.post(
    "/v1/jobs",
    status_code=202,
    dependencies=[Depends(needs("submit"))],
    responses=ACCEPTED | problems(400, 401, 402, 403, 413, 415, 422, 503),
    openapi_extra=IDEMPOTENT | {"requestBody": {"content": {"application/json": {"examples": _EXAMPLES}}}},
)
async def submit_job(job: JobRequest) -> SubmittedJob:
    """Takes a job: creates it, joins one that asks the same and still runs, or replays one that has ended."""
    raise NotImplementedError


@routes.post(
    "/v1/jobs/batch",
    dependencies=[Depends(needs("submit"))],
    responses=problems(400, 401, 403, 413, 415, 422, 503),
)
async def submit_jobs(batch: BatchRequest) -> BatchAnswer:
    """Takes up to 1,000 jobs; each has an outcome of its own, a job or a problem, in the order of the request."""
    raise NotImplementedError


_EVENT: Final = {
    "type": "object",
    "description": "One event of the stream.",
    "required": ["event", "data"],
    "properties": {
        "id": {"type": "string", "pattern": "^[0-9]+$", "description": "Its number; none on a `snapshot`."},
        "event": {"type": "string", "enum": list(get_args(EventName))},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": "#/components/schemas/Event"},
        },
    },
}
"""Before OpenAPI 3.2 the schema of an event stream is that of each event."""


@routes.get(
    "/v1/jobs/{job_id}/events",
    response_class=Response,
    dependencies=[Depends(needs("read"))],
    responses={
        200: {
            "description": "Events `queued started delta reset retrying snapshot succeeded failed cancelled expired`, "
            "numbered from 1 by `id`; the data is an Event. The terminal event is the last. Comments keep it alive.",
            "content": {"text/event-stream": {"schema": _EVENT}},
        },
        204: {"description": "The reader has everything: the job has ended and the cursor is at its end."},
    }
    | problems(400, 401, 403, 404, 503),
)
async def follow_job(
    job_id: str,
    last_event_id: Annotated[str | None, Query(pattern=r"^[0-9]{1,15}$", description="As the header.")] = None,
    last_event_id_header: Annotated[
        str | None,
        Header(alias="Last-Event-ID", pattern=r"^[0-9]{1,15}$", description="Events after this number."),
    ] = None,
    token: Annotated[str | None, Query(description="A stream token, instead of an API key.")] = None,
) -> None:
    """A job's events as SSE, from any number, live to the end, on any replica."""
    raise NotImplementedError


@routes.get(
    "/v1/events",
    response_class=Response,
    dependencies=[Depends(needs("read"))],
    responses={
        200: {
            "description": "The terminal event of each job of the batch, once, with its output, in the order in which "
            "they ended, numbered from 1 by `id` over the whole batch. The stream ends once every job now in the batch "
            "has ended. Comments keep it alive.",
            "content": {"text/event-stream": {"schema": _EVENT}},
        },
        204: {"description": "The reader has everything: all jobs of the batch have ended and the cursor is there."},
    }
    | problems(400, 401, 403, 404, 422, 503),
)
async def follow_batch(
    batch: Annotated[str, Query(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="As it was posted.")],
    last_event_id: Annotated[str | None, Query(pattern=r"^[0-9]{1,15}$", description="As the header.")] = None,
    last_event_id_header: Annotated[
        str | None,
        Header(alias="Last-Event-ID", pattern=r"^[0-9]{1,15}$", description="Events after this number."),
    ] = None,
) -> None:
    """The ends of a batch's jobs as SSE, from any number, on any replica: one connection for all of them."""
    raise NotImplementedError


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """`openapi_extra` for a route that reads its body itself; the document has to hold the model's schema."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
