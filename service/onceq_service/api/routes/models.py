"""GET /v1/models: what can be asked, and which of it a live worker serves."""

from __future__ import annotations

from fastapi import APIRouter

from onceq.wire import Answer
from onceq_service.api.auth import Reader
from onceq_service.api.openapi import documented as doc
from onceq_service.api.service import In

router = APIRouter(tags=["models"])


class ProviderInfo(Answer):
    """A provider; its models are called `<name>/<the provider's own model id>`."""

    name: str
    kind: str
    served: bool
    """Whether a live worker has its key."""
    simulated: bool


class ModelAlias(Answer):
    """A short name for a model; with several models, each after the first answers when those before it can't."""

    name: str
    models: list[str]


class Models(Answer):
    """What a request's `model` may be."""

    providers: list[ProviderInfo]
    aliases: list[ModelAlias]
    simulated: bool


@router.get("/v1/models", responses=doc.problems(401, 403, 503))
async def get_models(service: In, _: Reader) -> Models:
    """Providers, aliases, and whether everything here is simulated."""
    catalog = service.catalog
    served = {name for worker in service.workers for name in worker.providers}
    providers = [
        ProviderInfo(name=name, kind=p.kind, served=name in served, simulated=p.simulated)
        for name, p in sorted(catalog.providers.items())
    ]
    aliases = [ModelAlias(name=name, models=models) for name, models in sorted(catalog.aliases.items())]
    return Models(providers=providers, aliases=aliases, simulated=catalog.simulated)
