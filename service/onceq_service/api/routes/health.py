"""/livez and /readyz: for load balancers, and for people who wonder what is wrong."""

from __future__ import annotations

import asyncio
from importlib.metadata import version

from fastapi import APIRouter, Response

from onceq.wire import Health
from onceq_service.api.service import In, Service
from onceq_service.store import StoreDenied, StoreError
from onceq_service.store.server import REPLICA

PING_S = 2.0
VERSION = version("onceq")

router = APIRouter(tags=["health"])


@router.get("/livez")
async def livez() -> Health:
    """This process answers."""
    return Health(status="ok", version=VERSION)


@router.get("/readyz", responses={503: {"model": Health, "description": "Redis is away: no job can be taken."}})
async def readyz(service: In, response: Response) -> Health:
    """Whether jobs can be taken, and how safely: `degraded` still takes them, and says what to mend."""
    health = await look(service)
    if health.status == "unavailable":
        response.status_code = 503
        response.headers["Retry-After"] = "1"
    return health


async def look(service: Service) -> Health:
    """How things are now."""
    try:
        async with asyncio.timeout(PING_S):
            await service.store.ping()
            if service.facts is None:
                service.facts = await service.store.inspect()
            if service.facts.replica:
                return _unavailable(REPLICA)
            await service.hasher()
    except StoreDenied:
        return _unavailable("Redis refuses the service's user; the log says why")
    except (StoreError, TimeoutError):
        return _unavailable("Redis can't be reached")
    return _health(service)


def _unavailable(problem: str) -> Health:
    return Health(status="unavailable", problems=[problem], version=VERSION)


def _health(service: Service) -> Health:
    facts = service.facts
    problems = [*facts.problems, *facts.degraded] if facts else []
    if service.full:
        problems.append("Redis is above 85 % of its memory: new jobs are refused; raise maxmemory or wait")
    status = "degraded" if problems else "ok"
    return Health(status=status, durability=facts.durability if facts else None, problems=problems, version=VERSION)
