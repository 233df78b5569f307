"""Real providers or the simulator: decided once, for all of them, and told.

One provider with a key makes all of them real, and those without one a clear error; only where there is none at all
does the simulator answer. So a fake answer never stands beside a real one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from onceq_service.settings import ProviderConfig

How = Literal["real", "simulated", "no key"]

AWS_VARIABLES: Final = (
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_BEARER_TOKEN_BEDROCK",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)


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


def choose_mode(
    providers: Mapping[str, ProviderConfig], env: Mapping[str, str], home: Path, *, simulate: bool = False
) -> Mode:
    """Real where any provider has what it needs and nobody asked to `simulate`, else simulated."""
    found = {name: credential(provider, env, home) for name, provider in providers.items()}
    if simulate or not any(found.values()):
        because = "asked for" if simulate else "no provider has a key"
        return Mode(True, tuple(ProviderMode(name, "simulated", because) for name in providers))
    return Mode(False, tuple(_real(name, providers[name], source) for name, source in found.items()))


def credential(provider: ProviderConfig, env: Mapping[str, str], home: Path) -> str | None:
    """Where the provider's key comes from, as a name; None when there is none."""
    if provider.key_env:
        return provider.key_env if env.get(provider.key_env) else None
    if provider.kind == "bedrock":
        return _aws(env, home)
    return f"no key needed at {provider.base_url}" if provider.base_url else None


def key_variables(providers: Mapping[str, ProviderConfig]) -> frozenset[str]:
    """The variables that hold the keys of these providers, by their configuration."""
    return frozenset(p.key_env for p in providers.values() if p.key_env)


def _aws(env: Mapping[str, str], home: Path) -> str | None:
    variable = next((name for name in AWS_VARIABLES if env.get(name)), None)
    if variable:
        return variable
    path = Path(env.get("AWS_SHARED_CREDENTIALS_FILE") or home / ".aws" / "credentials")
    return str(path) if path.is_file() else None


def _real(name: str, provider: ProviderConfig, source: str | None) -> ProviderMode:
    if source is None:
        return ProviderMode(name, "no key", f"set {provider.key_env or 'AWS credentials'} to use it")
    return ProviderMode(name, "simulated" if provider.simulated else "real", source)
