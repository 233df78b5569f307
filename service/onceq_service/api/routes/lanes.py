"""Lanes: what limits and brakes them now, and the switch that pauses one of them, or a band."""

from __future__ import annotations

from fastapi import APIRouter, Request

from onceq.wire import LaneInfo, Lanes, Switch
from onceq_service.api.auth import Operator, Reader
from onceq_service.api.http.body import parse, read_json
from onceq_service.api.middleware import HEADS
from onceq_service.api.openapi import documented as doc
from onceq_service.api.service import In, Service
from onceq_service.store.lanes import Word
from onceq_service.store.stats import HOUR_MS

router = APIRouter(tags=["lanes"])

_COUNTS = ("running", "requests_last_minute", "input_tokens_last_minute", "output_tokens_last_minute")
_SWITCH = doc.problems(400, 401, 403, 413, 415, 422, 503)


@router.get("/v1/lanes", responses=doc.problems(401, 403, 503))
async def get_lanes(service: In, key: Reader) -> Lanes:
    """The lanes that have started a job lately: for an operator all of them, with counts over all tenants.

    For others those of the models that their tenant has asked for today or yesterday (UTC), and of aliases.
    """
    if key.may("operator"):
        return await _lanes(service)
    return await _lanes_of(service, key.tenant)


@router.post("/v1/lanes/pause", responses=_SWITCH, openapi_extra=doc.body_of(Switch))
async def pause(request: Request, service: In, _: Operator) -> Lanes:
    """Nothing new starts in this lane or band, for all tenants, until it is resumed; what runs goes on."""
    return await _switch(request, service, "pause")


@router.post("/v1/lanes/resume", responses=_SWITCH, openapi_extra=doc.body_of(Switch))
async def resume(request: Request, service: In, _: Operator) -> Lanes:
    """Jobs of this lane or band start again. A lane's brake is lifted, too, and its breaker closed, paused or not.

    A job that was itself told to wait still does.
    """
    return await _switch(request, service, "resume")


async def _switch(request: Request, service: Service, word: Word) -> Lanes:
    wanted = parse(Switch, await read_json(request.scope[HEADS], request.receive))
    if wanted.band is not None:
        await service.store.lanes.switch_band(wanted.band, word)
    for model in service.catalog.chain([wanted.lane]) if wanted.lane is not None else ():
        await service.store.lanes.switch_lane(model.model, word)
    return await _lanes(service)


async def _lanes(service: Service) -> Lanes:
    known = service.store.lanes
    return Lanes(lanes=await known.list(), paused_bands=await known.paused_bands())


async def _lanes_of(service: Service, tenant: str) -> Lanes:
    """A model's name may tell of another tenant's work (a fine-tuned one has its owner's in it)."""
    stats, found = service.store.stats, await _lanes(service)
    now_ms = await stats.now_ms()
    names = service.catalog.named | await stats.models(tenant, now_ms - 24 * HOUR_MS, now_ms)
    return Lanes(lanes=[_without_counts(x) for x in found.lanes if x.lane in names], paused_bands=found.paused_bands)


def _without_counts(lane: LaneInfo) -> LaneInfo:
    return lane.model_copy(update=dict.fromkeys(_COUNTS))
