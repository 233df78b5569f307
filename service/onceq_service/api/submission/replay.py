"""Dead letters: a job that ended badly is asked again as a new job, one by one or all that fit a filter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from onceq.wire import TERMINAL, BatchAnswerItem, Job, JobRequest, ReplayAnswer, ReplayRequest, SubmittedJob
from onceq_service.api.auth import Submitter
from onceq_service.api.http.body import parse, read_json
from onceq_service.api.http.problems import Refused, answer_to
from onceq_service.api.http.replies import JSON_TYPE
from onceq_service.api.lookup import fields_of
from onceq_service.api.middleware import HEADS
from onceq_service.api.openapi import documented as doc
from onceq_service.api.service import In, Service
from onceq_service.api.submission.admission import idempotency_key
from onceq_service.api.submission.submit import Accepted, admit
from onceq_service.store import ApiKey, Filter
from onceq_service.store.views import Fields

router = APIRouter(tags=["jobs"])

PAGE = 200
AT_ONCE = 8
"""Requests, of megabytes each, that are in memory together."""


@router.post(
    "/v1/jobs/{job_id}/replay",
    response_model=SubmittedJob,
    status_code=202,
    responses=doc.ACCEPTED | doc.problems(400, 401, 402, 403, 404, 409, 422, 503),
    openapi_extra=doc.IDEMPOTENT,
)
async def replay_job(request: Request, service: In, key: Submitter, job_id: str) -> Response:
    """Asks an ended job's question again: a new job with `retry_of`, a new sample, a new bill."""
    again = await _replay(service, key, job_id, idempotency_key(request.scope[HEADS].get(b"idempotency-key")))
    headers = {
        "Location": f"/v1/jobs/{again.id}",
        "Idempotent-Replayed": "false" if again.disposition == "created" else "true",
    }
    return Response(again.body, 202, headers, media_type=JSON_TYPE)


@router.post(
    "/v1/jobs/replay",
    responses=doc.problems(400, 401, 403, 413, 415, 422, 503),
    openapi_extra=doc.body_of(ReplayRequest),
)
async def replay_jobs(request: Request, service: In, key: Submitter) -> ReplayAnswer:
    """Replays the newest jobs that fit and were not replayed before. Sent again, it goes on with those left."""
    wanted = parse(ReplayRequest, await read_json(request.scope[HEADS], request.receive))
    found = [job.id async for job in _newest(service, key, wanted)]
    items = await _outcomes(service, key, found[: wanted.limit])
    return ReplayAnswer(items=items, more=len(found) > wanted.limit)


async def _newest(service: Service, key: ApiKey, wanted: ReplayRequest) -> AsyncGenerator[Job]:
    """The jobs to replay, and one more where there are more."""
    models = service.catalog.models(wanted.model) if wanted.model else None
    where = Filter(wanted.status, wanted.team, models, wanted.since, error=wanted.error, replayed=False)
    cursor, left = None, wanted.limit + 1
    while left > 0:
        page = await service.store.jobs.list(key.tenant, where, cursor=cursor, limit=min(left, PAGE))
        for job in page.jobs:
            yield job
        left, cursor = left - len(page.jobs), page.next_cursor
        if cursor is None:
            return


async def _outcomes(service: Service, key: ApiKey, ids: Sequence[str]) -> list[BatchAnswerItem]:
    """Of each job, in their order."""
    outcomes: list[BatchAnswerItem] = []
    for n in range(0, len(ids), AT_ONCE):
        outcomes += await asyncio.gather(*(_outcome(service, key, job_id) for job_id in ids[n : n + AT_ONCE]))
    return outcomes


async def _outcome(service: Service, key: ApiKey, job_id: str) -> BatchAnswerItem:
    """The key, which no client can send for its space, makes one job of a filter that is sent twice at once."""
    try:
        again = await _replay(service, key, job_id, f"replay {job_id}")
    except Exception as exc:  # noqa: BLE001 - one job's trouble, whatever it is, is not the others'
        return BatchAnswerItem(problem=answer_to(exc, "a replay").problem(f"/v1/jobs/{job_id}"))
    return BatchAnswerItem(job=SubmittedJob.model_validate_json(again.body))


async def _replay(service: Service, key: ApiKey, job_id: str, idem_key: str | None) -> Accepted:
    fields = await fields_of(service, key, job_id)
    _must_have_ended(job_id, fields)
    asked = _asked(job_id, fields)
    again = asked.model_copy(update={"fresh": True, "not_before": None})
    return await admit(service, key, idem_key, again, await service.hasher(), retry_of=job_id)


def _asked(job_id: str, fields: Fields) -> JobRequest:
    try:
        return JobRequest.model_validate_json(fields["request"])
    except ValidationError as exc:
        detail = (
            f"Job {job_id} was stored by another version of onceq, and this one refuses what it asks for: "
            f"{exc.error_count()} of its fields. Post it anew as this version takes it. Nothing was stored."
        )
        raise Refused("invalid_request", detail) from None


def _must_have_ended(job_id: str, fields: Fields) -> None:
    status = fields["state"].decode()
    if status not in TERMINAL:
        detail = f"Job {job_id} is still {status}: wait for its end or cancel it, then replay it. Nothing was stored."
        raise Refused("job_not_ended", detail)
