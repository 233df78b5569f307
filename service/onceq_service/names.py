"""Names in the environment and the configuration that name nothing: a typo there is ignored by whoever reads it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Set
from difflib import get_close_matches
from typing import Final, NamedTuple

from onceq_service.settings import DEFAULT_PROVIDERS, FileConfig, Settings

PREFIX: Final = "ONCEQ_"
ELSEWHERE: Final = frozenset({
    "ONCEQ_BASE_URL", "ONCEQ_API_KEY",  # the SDK
    "ONCEQ_DASHBOARD_HOST", "ONCEQ_DASHBOARD_HOSTS", "ONCEQ_DASHBOARD_SECRETS",  # the dashboard
    "ONCEQ_SUPERVISED",  # children of `onceq up`
    "ONCEQ_REDIS_MAXMEMORY",  # docker-compose.yml
})  # fmt: skip
"""What is no setting, and read by others."""
_BY_KUBERNETES: Final = re.compile(r"_SERVICE_(HOST|PORT)(_\w+)?$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$")
"""What pods are told of a Service whose name begins with onceq."""


def unread(env: Mapping[str, str], file: FileConfig) -> Iterator[tuple[str, str | None]]:
    """Each variable that nothing reads, and the one that may be meant."""
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | ELSEWHERE
    known |= {file.alerts.secret_env, *(p.key_env for p in file.providers.values() if p.key_env)}
    for name, value in env.items():
        ours = name.upper().startswith(PREFIX) and name not in known and name.upper() not in known
        if ours and not _BY_KUBERNETES.search(name) and not value.startswith(("tcp://", "udp://", "sctp://")):
            yield name, next(iter(get_close_matches(name.upper(), known, n=1, cutoff=0.75)), None)


def meant(name: str | None) -> str:
    """A question about what a typo stands for; empty without a guess."""
    return f"is {name} meant?" if name else ""


class UnknownName(NamedTuple):
    """An alias or a lane of a model that nobody can be asked for."""

    name: str
    """`alias small`, `lane opnai/*`"""
    says: str
    advice: str


def unknown_names(file: FileConfig, lanes: Iterable[str]) -> Iterator[UnknownName]:
    """Those of the file, and of `lanes`, which are the settings'."""
    providers = DEFAULT_PROVIDERS.keys() | file.providers.keys()
    for alias, models in file.aliases.items():
        for model in [models] if isinstance(models, str) else models:
            if not _names_a_model(model, providers):
                says = f"each post with it is refused: its model is {model}"
                yield UnknownName(f"alias {alias}", says, _no_provider(model, providers))
    for lane in dict.fromkeys([*file.lanes, *lanes]):
        if lane != "*" and not _names_a_model(lane, providers):
            yield UnknownName(f"lane {lane}", "limits nothing", _no_provider(lane, providers))


def _names_a_model(name: str, providers: Set[str]) -> bool:
    provider, _, rest = name.partition("/")
    return bool(rest) and provider in providers


def _no_provider(model: str, providers: Set[str]) -> str:
    provider, _, rest = model.partition("/")
    if provider in providers and not rest:
        return f"write {provider}/ and the provider's own name of the model"
    guess = get_close_matches(provider, providers, n=1)
    return f"no provider is named {provider!r}; {meant(guess[0]) if guess else f'there are {_listed(providers)}'}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
