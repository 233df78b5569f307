"""API keys: made, listed and revoked by an admin within its tenant; an operator may name any tenant."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from onceq.wire import ApiKeyInfo, ApiKeyList, ApiKeyRequest, NewApiKey
from onceq_service.api.auth import KEY, Admin
from onceq_service.api.http.body import parse, read_json
from onceq_service.api.http.problems import Refused, invalid_field
from onceq_service.api.middleware import HEADS
from onceq_service.api.openapi import documented as doc
from onceq_service.api.service import In
from onceq_service.store import ApiKey

router = APIRouter(tags=["keys"])


@router.post(
    "/v1/keys",
    status_code=201,
    responses=doc.problems(400, 401, 403, 409, 413, 415, 422, 503),
    openapi_extra=doc.body_of(ApiKeyRequest),
)
async def create_key(request: Request, response: Response, service: In, caller: Admin) -> NewApiKey:
    """Makes a key; its secret is in this answer and nowhere else."""
    wanted = parse(ApiKeyRequest, await read_json(request.scope[HEADS], request.receive))
    _check(caller, wanted)
    tenant, scopes = wanted.tenant or caller.tenant, list(dict.fromkeys(wanted.scopes))
    await service.store.api_keys.must_have_room(tenant)
    try:
        made, secret = await service.store.api_keys.create(tenant=tenant, name=wanted.name, scopes=scopes)
    except ValueError as exc:  # the caller's own tenant is of a time when it might be called anything
        raise invalid_field("tenant", str(exc)) from exc
    response.headers["Cache-Control"] = "no-store"
    return NewApiKey(**_info(made).model_dump(), secret=secret)


@router.get("/v1/keys", responses=doc.problems(401, 403, 503))
async def list_keys(service: In, caller: Admin) -> ApiKeyList:
    """The tenant's keys; an operator's own call lists those of all tenants."""
    return ApiKeyList(keys=[_info(key) for key in await service.store.api_keys.list(_reach(caller))])


@router.get("/v1/keys/self", responses=doc.problems(401, 503))
async def own_key(request: Request) -> ApiKeyInfo:
    """The key that asks: what it may do, so that a page offers nothing else."""
    return _info(request.scope[KEY])


@router.delete("/v1/keys/{key_id}", status_code=204, responses=doc.problems(401, 403, 404, 503))
async def revoke_key(service: In, caller: Admin, key_id: str) -> Response:
    """Revokes a key, and ends the event streams that it opened: at once in this process, within 5 s in the others."""
    known = {key.id: key for key in await service.store.api_keys.list(_reach(caller))}
    if key_id not in known:
        raise Refused("not_found", f"There is no API key {key_id[:50]} that this one may revoke.")
    if known[key_id].may("operator") and not caller.may("operator"):
        raise Refused("forbidden", f"API key {key_id} is an operator's: only an operator may revoke it.")
    await service.store.api_keys.revoke(key_id)
    service.shut_out({key_id})
    return Response(status_code=204)


def _check(caller: ApiKey, wanted: ApiKeyRequest) -> None:
    if caller.may("operator"):
        return
    if wanted.tenant not in (None, caller.tenant):
        raise Refused("forbidden", "Only an operator makes keys for another tenant; leave tenant out.")
    if "operator" in wanted.scopes:
        raise Refused("forbidden", "Only an operator makes keys with the scope operator.")


def _reach(caller: ApiKey) -> str | None:
    """The tenant whose keys the caller may see; None for all."""
    return None if caller.may("operator") else caller.tenant


def _info(key: ApiKey) -> ApiKeyInfo:
    return ApiKeyInfo(id=key.id, tenant=key.tenant, name=key.name, scopes=list(key.scopes), created_at=key.created_at)
