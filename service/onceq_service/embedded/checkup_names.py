"""Names in the configuration and the environment that name nothing: a typo there is ignored by whoever reads it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from difflib import get_close_matches

from onceq_service.embedded.check import Check
from onceq_service.settings import FileConfig
from onceq_service.variables import meant, unread


def variable_checks(env: Mapping[str, str], file: FileConfig) -> Iterator[Check]:
    """One line for each variable that nothing reads."""
    for name, guess in unread(env, file):
        yield Check("warn", f"variable {name}", "is set, and nothing reads it", meant(guess) or "unset it")


def alias_checks(aliases: Mapping[str, str | list[str]], providers: Set[str]) -> Iterator[Check]:
    """One line for each model of an alias that nobody can be asked for."""
    for alias, models in aliases.items():
        for model in [models] if isinstance(models, str) else models:
            if not _names_a_model(model, providers):
                says = f"each post with it is refused: its model is {model}"
                yield Check("fail", f"alias {alias}", says, _no_provider(model, providers))


def lane_checks(lanes: Iterable[str], providers: Set[str]) -> Iterator[Check]:
    """One line for each lane's limits that hold for no lane."""
    for lane in lanes:
        if lane != "*" and not _names_a_model(lane, providers):
            yield Check("fail", f"lane {lane}", "limits nothing", _no_provider(lane, providers))


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
