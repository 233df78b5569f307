"""Which models exist: aliases and provider prefixes, from the configuration; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from onceq_service.api.http.problems import Refused
from onceq_service.settings import ProviderConfig

KNOWN_MAX: Final = 1_000
"""Chains that are remembered."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """A model as its worker knows it: `<provider>/<provider's own id>`, which is also its lane."""

    model: str
    provider: str
    simulated: bool
    can_resume: bool = False


class Catalog:
    """Resolves what requests call a model."""

    def __init__(self, aliases: Mapping[str, str | Sequence[str]], providers: Mapping[str, ProviderConfig]) -> None:
        self.aliases = {name: [models] if isinstance(models, str) else list(models) for name, models in aliases.items()}
        self.providers = dict(providers)
        self._known: dict[tuple[str, ...], list[Resolved]] = {}
        self.simulated = bool(providers) and all(p.simulated for p in providers.values())
        """Whether this whole stack runs on the simulator."""
        self.named = frozenset(model for models in self.aliases.values() for model in models)
        """The models of aliases, which everybody may see."""

    def chain(self, names: Iterable[str]) -> list[Resolved]:
        """The models behind names, aliases with several models opened, none twice; raises Refused (422)."""
        names = tuple(names)
        known = self._known.get(names)
        if known is None:
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            known = self._known[names] = self._chain(names)
        return known

    def _chain(self, names: Sequence[str]) -> list[Resolved]:
        found = {model: self._resolve(model, name) for name in names for model in self.aliases.get(name, [name])}
        models = list(found.values())
        if len({model.simulated for model in models}) > 1:
            raise Refused("unknown_model", "A job can't fall back from a real provider to a simulated one, or back.")
        return models

    def models(self, name: str) -> list[str]:
        """What an alias stands for; any other name is itself."""
        return self.aliases.get(name, [name])

    def _resolve(self, model: str, name: str) -> Resolved:
        provider, slash, rest = model.partition("/")
        if not slash or not rest or provider not in self.providers:
            raise self._unknown(name)
        config = self.providers[provider]
        return Resolved(model, provider, config.simulated, config.can_resume)

    def not_served(self, provider: str) -> Refused:
        """422 for a provider that no live worker has a key for."""
        config = self.providers[provider]
        variable = config.key_env or ("AWS credentials" if config.kind == "bedrock" else "its key")
        detail = (
            f"No running worker serves the provider {provider}: set {variable} in the environment of a worker and "
            "restart it, or choose another model. Nothing was stored."
        )
        return Refused("provider_not_served", detail)

    def _unknown(self, name: str) -> Refused:
        known = f"a model is <provider>/<model id> with one of the providers {_list(self.providers)}"
        aliases = f", or one of the aliases {_list(self.aliases)}" if self.aliases else ""
        return Refused("unknown_model", f"The model {name[:100]} is not known: {known}{aliases}. Nothing was stored.")


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
