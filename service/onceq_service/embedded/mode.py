"""Real providers or the simulator: decided once, for all of them, and told.

One provider with a key makes all of them real, and those without one a clear error; only where there is none at all
does the simulator answer. So a fake answer never stands beside a real one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from onceq_service.providers import key_source, missing_keys
from onceq_service.settings import ProviderConfig

How = Literal["real", "simulated", "no key"]


@dataclass(frozen=True, slots=True)
class ProviderMode:
    """What answers for one provider. `because` names where its key comes from, or what is missing; never a value."""

    name: str
    how: How
    because: str


@dataclass(frozen=True, slots=True)
class Mode:
    """What answers for each provider; `simulated` is true for all of them or for none."""

    simulated: bool
    providers: tuple[ProviderMode, ...]


def choose_mode(providers: Mapping[str, ProviderConfig], env: Mapping[str, str], *, simulate: bool = False) -> Mode:
    """Real where any provider has what it needs and nobody asked to `simulate`, else simulated."""
    found = {name: key_source(provider, env) for name, provider in providers.items()}
    if simulate or not any(found.values()):
        because = "asked for" if simulate else "no provider has a key"
        return Mode(True, tuple(ProviderMode(name, "simulated", because) for name in providers))
    return Mode(False, tuple(_real(name, providers[name], source) for name, source in found.items()))


def key_variables(providers: Mapping[str, ProviderConfig]) -> frozenset[str]:
    """The variables that hold the keys of these providers, by their configuration."""
    return frozenset(p.key_env for p in providers.values() if p.key_env)


def _real(name: str, provider: ProviderConfig, source: str | None) -> ProviderMode:
    if source is None:
        wanted = "AWS_PROFILE or AWS_ACCESS_KEY_ID" if provider.kind == "bedrock" else _variable(name, provider)
        return ProviderMode(name, "no key", f"set {wanted} to use it")
    return ProviderMode(name, "simulated" if provider.simulated else "real", source)


def _variable(name: str, provider: ProviderConfig) -> str:
    return missing_keys({name: provider}, {})[name]
