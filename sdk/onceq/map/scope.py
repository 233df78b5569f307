"""Within which bounds answers may be remembered: a tenant's own, and simulated ones never among real ones."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pydantic_core import to_json

from onceq._config import Config
from onceq._http import Backoff, Call, Flow, exchange, read
from onceq.errors import ConnectionFailed, OnceqError, ServiceUnavailableError
from onceq.map.cache import Cache
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


@dataclass(frozen=True, slots=True)
class Contact:
    """The service that a map asks, with which key, and how patiently while nothing of the map is in flight."""

    config: Config
    backoff: Backoff

    def digest(self, models: Sequence[str]) -> bytes:
        """Names it in a file that may be copied and shared, without the key."""
        return hashlib.sha256(to_json([self.config.base_url, self.config.api_key, list(models)])).digest()


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose answers are remembered together. `silence`: the service did not answer, so that nothing can be asked."""

    name: str = ""
    silence: OnceqError | None = None


def scope_of(models: Sequence[str], contact: Contact, cache: Cache) -> Flow[Scope]:
    """Whose answers of these models are remembered together; what is in the file can be had without the service."""
    who = contact.digest(models)
    try:
        name = yield from _named(models, contact.backoff)
    except (ConnectionFailed, ServiceUnavailableError) as silence:
        known = cache.scope(who)
        if known is None:
            raise
        return Scope(known, silence)
    cache.named(who, name)
    return Scope(name)


def _named(models: Sequence[str], backoff: Backoff) -> Flow[str]:
    key = read(ApiKeyInfo.model_validate_json, (yield from exchange(Call("GET", "/v1/keys/self"), backoff)))
    catalog = read(_Catalog.model_validate_json, (yield from exchange(Call("GET", "/v1/models"), backoff)))
    return f"{key.tenant} {SIMULATED if _simulated(models, catalog) else 'real'}"


def _simulated(models: Sequence[str], catalog: _Catalog) -> bool:
    aliases = {alias.name: alias.models for alias in catalog.aliases}
    simulated = {provider.name for provider in catalog.providers if provider.simulated}
    names = [name for model in models for name in aliases.get(model, [model])]
    return any(name.partition("/")[0] in simulated for name in names)
