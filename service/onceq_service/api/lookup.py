"""A tenant's job, or the 404: jobs of others are not there."""

from __future__ import annotations

from onceq_service.api.http.problems import job_not_found
from onceq_service.api.service import Service
from onceq_service.store import ApiKey
from onceq_service.store.views import Fields


async def fields_of(service: Service, key: ApiKey, job_id: str) -> Fields:
    """The job's whole hash; raises Refused (404)."""
    return found(await service.store.jobs.fields(job_id, key.tenant), service, job_id)


async def shown_of(service: Service, key: ApiKey, job_id: str) -> Fields:
    """What of the job's hash a client is shown; raises Refused (404)."""
    return found(await service.store.jobs.shown(job_id, key.tenant), service, job_id)


def found(fields: Fields | None, service: Service, job_id: str) -> Fields:
    """What was looked for; raises Refused (404)."""
    if fields is None:
        raise job_not_found(job_id, service.settings.result_ttl_s)
    return fields
