"""What the shaping of requests has in common. Pure functions, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from onceq.wire import JobRequest
from onceq_service.providers._errors import BAD_REQUEST, error
from onceq_service.providers.base import CallSpec

EMPTY_SCHEMA: Final[Mapping[str, Any]] = {"type": "object", "properties": {}}
"""Of a tool without parameters: all three want a schema."""
ANY_OBJECT: Final[Mapping[str, Any]] = {"type": "object", "additionalProperties": True}
"""Of the tool that stands in for a mode "any JSON object"."""
WHOLE_ANSWER: Final = "Give the whole answer as one JSON object."


def given(body: Mapping[str, Any]) -> dict[str, Any]:
    """A request's body without what was not asked for."""
    return {name: value for name, value in body.items() if value is not None}


def answers_by_tool(request: JobRequest) -> bool:
    """Any JSON object, without a schema: who has no such mode must call a tool, whose arguments become the text."""
    return request.response_format is not None and request.response_format.type == "json_object"


def json_object(spec: CallSpec, provider: str, arguments: str) -> dict[str, Any]:
    """A tool call's arguments, which are JSON text in our wire, as an object; raises `provider_bad_request`."""
    try:
        return msgspec.json.decode(arguments or "{}", type=dict[str, Any])
    except msgspec.MsgspecError as exc:
        raise error(spec, provider, BAD_REQUEST, said="a tool call's arguments are not a JSON object") from exc
