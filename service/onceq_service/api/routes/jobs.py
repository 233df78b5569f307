"""Reading jobs and cancelling them."""

from __future__ import annotations

import hashlib
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from onceq.wire import Band, Cost, Job, JobPage, JobRequest, LedgerEntry, Status, StreamToken, Verdict
from onceq.wire.words import ModelName, Name, RangeEnd
from onceq_service.api.auth import Canceller, Reader
from onceq_service.api.http.problems import invalid_field
from onceq_service.api.http.replies import JSON_TYPE
from onceq_service.api.lookup import fields_of, found, shown_of
from onceq_service.api.openapi import documented as doc
from onceq_service.api.service import In
from onceq_service.api.stream_token import make_token
from onceq_service.api.streams.long_poll import has_ended, wait_for_end
from onceq_service.store import Filter
from onceq_service.store.stats import ledger_rows

CANCEL_WAIT_S = 1.0
"""How long a cancel waits for the worker to let go, so that most callers see the final state."""
POLL_AGAIN_S = 1
LabelFilter = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,62}=[^\x00-\x1f\x7f]{1,100}$")]

router = APIRouter(tags=["jobs"])


class ListQuery(BaseModel):
    """`GET /v1/jobs`: which jobs."""

    model_config = ConfigDict(extra="forbid")

    status: Annotated[Status | None, Field(description="In this state.")] = None
    team: Annotated[Name | None, Field(description="Of this team.")] = None
    model: Annotated[ModelName | None, Field(description="Of this model, or of those that an alias names.")] = None
    band: Annotated[Band | None, Field(description="In this band.")] = None
    verdict: Annotated[Verdict | None, Field(description="Ended with this verdict: who made it slow or failed.")] = None
    key: Annotated[Name | None, Field(description="Posted with the API key of this id.")] = None
    user: Annotated[Name | None, Field(description="Of this user.")] = None
    label: Annotated[
        list[LabelFilter],
        Field(max_length=4, description="With this label, `name=value`. Repeated, up to 4 times, each must fit."),
    ] = []
    since: Annotated[RangeEnd | None, Field(description=f"Created at this time or later, {doc.MOMENT}.")] = None
    until: Annotated[RangeEnd | None, Field(description=f"Created at this time or earlier, {doc.MOMENT}.")] = None
    error: Annotated[Name | None, Field(description="Ended with this error code.")] = None
    replayed: Annotated[bool | None, Field(description="Whether it was asked again by a replay.")] = None
    cursor: Annotated[str | None, Field(description="A `next_cursor` of a page before: goes on from there.")] = None
    limit: Annotated[int, Field(ge=1, le=200, description="Most jobs of a page.")] = 50


class WaitQuery(BaseModel):
    """`GET /v1/jobs/{id}`: how long it may take."""

    model_config = ConfigDict(extra="forbid")

    wait: Annotated[float, Field(ge=0, le=60, description="Seconds to wait for the job's end before answering.")] = 0


@router.get("/v1/jobs", responses=doc.problems(401, 403, 422, 503))
async def list_jobs(service: In, key: Reader, where: Annotated[ListQuery, Query()]) -> JobPage:
    """The tenant's jobs, newest first.

    Dead letters are `status=failed&replayed=false`, those of one cause have its code as `error`. A page looks at 5,000
    jobs at most: where few fit it may be short or empty, says how far it has looked, and its `next_cursor` goes on.
    """
    models = service.catalog.models(where.model) if where.model else None
    wanted = Filter(
        status=where.status,
        team=where.team,
        models=models,
        since=where.since,
        until=where.until,
        error=where.error,
        replayed=where.replayed,
        band=where.band,
        verdict=where.verdict,
        key=where.key,
        user=where.user,
        labels=[(name, value) for name, _, value in (label.partition("=") for label in where.label)],
    )
    try:
        return await service.store.jobs.list(key.tenant, wanted, cursor=where.cursor, limit=where.limit)
    except ValueError as exc:
        raise invalid_field("query.cursor", "not a next_cursor of a page before") from exc


@router.get("/v1/jobs/{job_id}", response_model=Job, responses=doc.TAGGED | doc.problems(401, 403, 404, 422, 503))
async def get_job(
    request: Request,
    service: In,
    key: Reader,
    job_id: str,
    query: Annotated[WaitQuery, Query()],
    if_none_match: Annotated[str, Header(alias="If-None-Match", description="The ETag of an earlier answer.")] = "",
) -> Response:
    """The job as it stands. With `wait` it is answered at the job's end, or after that many seconds."""
    fields = found(await wait_for_end(service, key, job_id, query.wait, request), service, job_id)
    body = (await service.store.jobs.view(job_id, fields)).model_dump_json().encode()
    tag = etag(body)
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if not has_ended(fields):
        headers["Retry-After"] = str(POLL_AGAIN_S)
    if not _tags(if_none_match).isdisjoint((tag, "*")):
        return Response(status_code=304, headers=headers)
    return Response(body, 200, headers, media_type=JSON_TYPE)


@router.post(
    "/v1/jobs/{job_id}/cancel", response_model=Job, responses=doc.CANCEL_TOLD | doc.problems(401, 403, 404, 503)
)
async def cancel_job(request: Request, service: In, key: Canceller, job_id: str) -> Response:
    """Cancels a job, for everyone who joined it: 200 when it has ended, 202 when its worker has yet to let go.

    A key without the scope `read` is told the state and the receipt: `output`, `usage`, `user`, `team`, `labels`,
    `error` and the sums of `cost` are left empty.
    """
    outcome = await service.store.jobs.cancel(job_id, key.tenant)
    wait_s = CANCEL_WAIT_S if outcome == "requested" else 0
    fields = found(await wait_for_end(service, key, job_id, wait_s, request), service, job_id)
    job = await service.store.jobs.view(job_id, fields)
    shown = job if key.may("read") else _unread(job)
    return Response(shown.model_dump_json(), 200 if job.finished_at else 202, media_type=JSON_TYPE)


def _unread(job: Job) -> Job:
    """The job without what was said, for whom, and for how much."""
    unsaid: dict[str, object] = {"output": None, "usage": None, "error": None}
    nobody: dict[str, object] = {"user": None, "team": None, "labels": {}}
    return job.model_copy(update=unsaid | nobody | {"cost": Cost(nano_usd=None, usd=None, priced=job.cost.priced)})


@router.get("/v1/jobs/{job_id}/ledger", responses=doc.problems(401, 403, 404, 503))
async def get_ledger(service: In, key: Reader, job_id: str) -> list[LedgerEntry]:
    """What the job cost, one row a try."""
    return ledger_rows(await fields_of(service, key, job_id))


@router.get("/v1/jobs/{job_id}/request", response_model=JobRequest, responses=doc.problems(401, 403, 404, 503))
async def get_request(service: In, key: Reader, job_id: str) -> Response:
    """The request as it was stored."""
    return Response((await fields_of(service, key, job_id))["request"], media_type=JSON_TYPE)


@router.post(
    "/v1/jobs/{job_id}/stream-token",
    response_model=StreamToken,
    status_code=201,
    responses=doc.problems(401, 403, 404, 503),
)
async def create_stream_token(service: In, key: Reader, job_id: str) -> Response:
    """A token for `GET .../events?token=`, for a browser: this job alone, read only, 60 s to connect."""
    await shown_of(service, key, job_id)
    made = await make_token(service, key, job_id)
    return Response(made.model_dump_json(), 201, {"Cache-Control": "no-store"}, media_type=JSON_TYPE)


def etag(body: bytes) -> str:
    """Changes with whatever a client can see of a job; claims, cancels and a lane's pause leave no event."""
    return f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"'


def _tags(header: str) -> set[str]:
    return {tag.strip().removeprefix("W/") for tag in header.split(",")}
