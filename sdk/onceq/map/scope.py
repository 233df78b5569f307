"""Within which bounds answers may be remembered: a tenant's own, and simulated ones never among real ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from onceq._http import PATIENT, Call, Flow, exchange, read
from onceq.wire import Answer, ApiKeyInfo

SIMULATED: Final = "simulated"
"""What a scope of simulated answers ends with."""


class _Provider(Answer):
    name: str
    simulated: bool = False


class _Alias(Answer):
    name: str
    models: list[str]


class _Catalog(Answer):
    providers: list[_Provider]
    aliases: list[_Alias]


def scope_of(models: Sequence[str]) -> Flow[str]:
    """Whose answers of these models are remembered together."""
    key = read(ApiKeyInfo.model_validate_json, (yield from exchange(Call("GET", "/v1/keys/self"), PATIENT)))
    catalog = read(_Catalog.model_validate_json, (yield from exchange(Call("GET", "/v1/models"), PATIENT)))
    return f"{key.tenant} {SIMULATED if _simulated(models, catalog) else 'real'}"


def _simulated(models: Sequence[str], catalog: _Catalog) -> bool:
    aliases = {alias.name: alias.models for alias in catalog.aliases}
    simulated = {provider.name for provider in catalog.providers if provider.simulated}
    names = [name for model in models for name in aliases.get(model, [model])]
    return any(name.partition("/")[0] in simulated for name in names)
