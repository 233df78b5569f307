"""Budgets: listed for who may read, made, changed and taken away by an admin within its tenant.

Those of `onceq.toml` are listed too, and are changed only there: a replica that is started anew with another file would
take back whatever the API had changed. An operator sees and changes those of all tenants.
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from onceq.wire import BudgetChange, BudgetList, BudgetRequest, BudgetStatus
from onceq_service.api.auth import Admin, Reader
from onceq_service.api.http.body import parse, read_json
from onceq_service.api.http.problems import Refused, invalid_field
from onceq_service.api.middleware import HEADS
from onceq_service.api.openapi import documented as doc
from onceq_service.api.routes.stats import time_of
from onceq_service.api.service import In, Service
from onceq_service.settings import zone
from onceq_service.store import ApiKey
from onceq_service.store.budgets import MOST_OF_A_TENANT, Budget, budget_of

router = APIRouter(tags=["budgets"])

_CREATED: doc.Responses = {
    201: {"headers": {"Location": {"schema": {"type": "string"}, "description": "The budget's URL."}}}
}


@router.get("/v1/budgets", responses=doc.problems(401, 403, 503))
async def list_budgets(service: In, caller: Reader) -> BudgetList:
    """The tenant's budgets by name, as they stand now; an operator's own call lists those of all tenants."""
    await service.budget_cache.read(service.store)
    now_ms = await service.store.stats.now_ms()
    found = service.budget_cache.all() if caller.may("operator") else service.budget_cache.of(caller.tenant)
    return BudgetList(at=time_of(now_ms), budgets=await service.store.budgets.status(found, now_ms))


@router.get("/v1/budgets/{budget_id}", responses=doc.problems(401, 403, 404, 503))
async def get_budget(service: In, caller: Reader, budget_id: str) -> BudgetStatus:
    """One budget as it stands now."""
    return await _status(service, await _find(service, caller, budget_id))


@router.post(
    "/v1/budgets",
    status_code=201,
    responses=_CREATED | doc.problems(400, 401, 403, 409, 413, 415, 422, 503),
    openapi_extra=doc.body_of(BudgetRequest),
)
async def create_budget(request: Request, response: Response, service: In, caller: Admin) -> BudgetStatus:
    """Makes a budget. It counts the jobs that are posted from now on: here at once, in other replicas within 1 s."""
    wanted = parse(BudgetRequest, await read_json(request.scope[HEADS], request.receive))
    tenant = _tenant(caller, wanted)
    _check_zone(wanted)
    await service.budget_cache.read(service.store)
    known = service.budget_cache.of(tenant)
    made = budget_of(wanted, tenant, "api", await service.store.stats.now_ms())
    if len(known) >= MOST_OF_A_TENANT:
        detail = f"Tenant {tenant} has {len(known)} budgets, the most it may have: delete some. Nothing was stored."
        raise Refused("too_many_budgets", detail)
    if any(budget.id == made.id for budget in known) or not await service.store.budgets.put(made, None):
        raise _exists(made)
    await service.budget_cache.read(service.store)
    response.headers["Location"] = f"/v1/budgets/{made.id}"
    return await _status(service, made)


@router.patch(
    "/v1/budgets/{budget_id}",
    responses=doc.problems(400, 401, 403, 404, 409, 413, 415, 422, 503),
    openapi_extra=doc.body_of(BudgetChange),
)
async def change_budget(request: Request, service: In, caller: Admin, budget_id: str) -> BudgetStatus:
    """Changes what is given, at once in all replicas; what was spent and reserved stays counted."""
    change = parse(BudgetChange, await read_json(request.scope[HEADS], request.receive))
    while True:
        budget = _of_api(await _find(service, caller, budget_id))
        changed = budget.changed(change)
        if await service.store.budgets.put(changed, budget):
            await service.budget_cache.read(service.store)
            return await _status(service, changed)


@router.delete("/v1/budgets/{budget_id}", status_code=204, responses=doc.problems(401, 403, 404, 409, 503))
async def delete_budget(service: In, caller: Admin, budget_id: str) -> Response:
    """Takes a budget away, and what it has counted; jobs that it counted go on."""
    while not await service.store.budgets.remove(_of_api(await _find(service, caller, budget_id))):
        pass
    await service.budget_cache.read(service.store)
    return Response(status_code=204)


async def _status(service: Service, budget: Budget) -> BudgetStatus:
    return (await service.store.budgets.status([budget], await service.store.stats.now_ms()))[0]


async def _find(service: Service, caller: ApiKey, budget_id: str) -> Budget:
    await service.budget_cache.read(service.store)
    found = service.budget_cache.all() if caller.may("operator") else service.budget_cache.of(caller.tenant)
    for budget in found:
        if budget.id == budget_id:
            return budget
    raise Refused("not_found", f"There is no budget {budget_id[:50]} for this API key; GET /v1/budgets lists them.")


def _of_api(budget: Budget) -> Budget:
    if budget.source == "file":
        detail = f"Budget {budget.name!r} is in onceq.toml: change it there, and restart the service."
        raise Refused("budget_read_only", detail)
    return budget


def _tenant(caller: ApiKey, wanted: BudgetRequest) -> str:
    if wanted.tenant not in (None, caller.tenant) and not caller.may("operator"):
        raise Refused("forbidden", "Only an operator makes budgets for another tenant; leave tenant out.")
    return wanted.tenant or caller.tenant


def _check_zone(wanted: BudgetRequest) -> None:
    try:
        zone(wanted.time_zone)
    except ValueError as exc:
        raise invalid_field("time_zone", str(exc)) from exc


def _exists(budget: Budget) -> Refused:
    detail = f"Tenant {budget.tenant} has a budget named {budget.name!r} already: change that one ({budget.id})."
    return Refused("budget_exists", detail)
