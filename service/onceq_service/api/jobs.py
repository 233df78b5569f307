"""Reading jobs and cancelling them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from onceq.wire import Job, JobPage, JobRequest, LedgerEntry, Status
from onceq_service.api import documented as doc
from onceq_service.api.auth import Canceller, Reader
from onceq_service.api.door import HEADS
from onceq_service.api.problems import invalid_field, job_not_found
from onceq_service.api.service import In, Service
from onceq_service.api.waiting import has_ended, wait_for_end
from onceq_service.store import ApiKey, Filter
from onceq_service.store.stats import ledger_rows
from onceq_service.store.views import Fields

CANCEL_WAIT_S = 1.0
"""How long a cancel waits for the worker to let go, so that most callers see the final state."""
POLL_AGAIN_S = 1
JSON = "application/json"

router = APIRouter(tags=["jobs"])


class ListQuery(BaseModel):
    """`GET /v1/jobs`: which jobs; `since` is a time of creation, `cursor` the `next_cursor` of the page before."""

    model_config = ConfigDict(extra="forbid")

    status: Status | None = None
    team: str | None = None
    model: str | None = None
    since: AwareDatetime | None = None
    cursor: str | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50


class WaitQuery(BaseModel):
    """`GET /v1/jobs/{id}`: `wait` seconds for the end before answering."""

    model_config = ConfigDict(extra="forbid")

    wait: Annotated[float, Field(ge=0, le=60)] = 0


@router.get("/v1/jobs", responses=doc.problems(401, 403, 422, 503))
async def list_jobs(service: In, key: Reader, where: Annotated[ListQuery, Query()]) -> JobPage:
    """The tenant's jobs, newest first."""
    models = service.catalog.models(where.model) if where.model else None
    wanted = Filter(status=where.status, team=where.team, models=models, since=where.since)
    try:
        return await service.store.jobs.list(key.tenant, wanted, cursor=where.cursor, limit=where.limit)
    except ValueError as exc:
        raise invalid_field("query.cursor", "not a next_cursor of a page before") from exc


@router.get("/v1/jobs/{job_id}", response_model=Job, responses=doc.NOT_MODIFIED | doc.problems(401, 403, 404, 422, 503))
async def get_job(
    request: Request, service: In, key: Reader, job_id: str, query: Annotated[WaitQuery, Query()]
) -> Response:
    """The job as it stands. With `wait` it is answered at the job's end, or after that many seconds."""
    fields = await wait_for_end(service, key, job_id, query.wait, request.scope)
    if fields is None:
        raise job_not_found(job_id, service.settings.result_ttl_s)
    tag = etag(fields, service.store.jobs.durability)
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if not has_ended(fields):
        headers["Retry-After"] = str(POLL_AGAIN_S)
    if tag in _tags(request.scope[HEADS].get(b"if-none-match", b"")):
        return Response(status_code=304, headers=headers)
    return job_response(await _view(service, key, job_id), 200, headers)


@router.post(
    "/v1/jobs/{job_id}/cancel", response_model=Job, responses=doc.CANCEL_TOLD | doc.problems(401, 403, 404, 503)
)
async def cancel_job(request: Request, service: In, key: Canceller, job_id: str) -> Response:
    """Cancels a job, for everyone who joined it: 200 when it has ended, 202 when its worker has yet to let go."""
    outcome = await service.store.jobs.cancel(job_id, key.tenant)
    if outcome == "requested":
        await wait_for_end(service, key, job_id, CANCEL_WAIT_S, request.scope)
    job = await _view(service, key, job_id)
    return job_response(job, 200 if job.finished_at else 202, {})


@router.get("/v1/jobs/{job_id}/ledger", responses=doc.problems(401, 403, 404, 503))
async def get_ledger(service: In, key: Reader, job_id: str) -> list[LedgerEntry]:
    """What the job cost, one row a try."""
    return ledger_rows(await fields_of(service, key, job_id))


@router.get("/v1/jobs/{job_id}/request", response_model=JobRequest, responses=doc.problems(401, 403, 404, 503))
async def get_request(service: In, key: Reader, job_id: str) -> Response:
    """The request as it was stored."""
    return Response((await fields_of(service, key, job_id))["request"], media_type=JSON)


async def fields_of(service: Service, key: ApiKey, job_id: str) -> Fields:
    """The job's hash; raises Refused (404)."""
    fields = await service.store.jobs.fields(job_id, key.tenant)
    if fields is None:
        raise job_not_found(job_id, service.settings.result_ttl_s)
    return fields


def etag(fields: Fields, durability: str) -> str:
    """Changes with whatever a client can see of a job: each event has a number, only claims and cancels have none."""
    cancel = "-c" if "cancel" in fields else ""
    return f'"{int(fields["seq"])}-{fields["state"].decode()}{cancel}-{durability}"'


def job_response(job: Job, status: int, headers: dict[str, str]) -> Response:
    """A job as an answer."""
    return Response(job.model_dump_json(), status, headers, media_type=JSON)


async def _view(service: Service, key: ApiKey, job_id: str) -> Job:
    job = await service.store.jobs.get(job_id, key.tenant)
    if job is None:
        raise job_not_found(job_id, service.settings.result_ttl_s)
    return job


def _tags(header: bytes) -> set[str]:
    return {tag.strip().removeprefix("W/") for tag in header.decode("latin-1").split(",")}
