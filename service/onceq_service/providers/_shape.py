"""What the shaping of requests has in common. Pure functions, no I/O."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

import msgspec

from onceq_service.providers._errors import BAD_REQUEST, error
from onceq_service.providers.base import CallSpec

EMPTY_SCHEMA: Final[Mapping[str, Any]] = {"type": "object", "properties": {}}
"""Of a tool without parameters: all three want a schema."""
ANY_OBJECT: Final[Mapping[str, Any]] = {"type": "object", "additionalProperties": True}
"""Of the tool that stands in for a mode "any JSON object"."""
WHOLE_ANSWER: Final = "Give the whole answer as one JSON object."


def by_signature(create: Callable[..., object], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments for an SDK's `create`: those it knows by name, the others in the body as they are.

    Which names an SDK knows changes with its version (Anthropic's has lost `temperature`), the host takes them still.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    unknown = given.keys() - _names(create)
    known = {name: value for name, value in given.items() if name not in unknown}
    return known | ({"extra_body": {name: given[name] for name in sorted(unknown)}} if unknown else {})


def json_object(spec: CallSpec, provider: str, arguments: str) -> dict[str, Any]:
    """A tool call's arguments, which are JSON text in our wire, as an object; raises `provider_bad_request`."""
    try:
        return msgspec.json.decode(arguments or "{}", type=dict[str, Any])
    except msgspec.MsgspecError as exc:
        raise error(spec, provider, BAD_REQUEST, said="a tool call's arguments are not a JSON object") from exc


@cache
def _names(create: Callable[..., object]) -> frozenset[str]:
    return frozenset(inspect.signature(create).parameters)
