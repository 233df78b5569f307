"""How JSON of a pydantic model, or of a schema, is asked for. Pure."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any, cast

from pydantic import BaseModel
from pydantic.errors import PydanticUserError

from onceq._http import refusal


def format_of_model(model: type[BaseModel]) -> dict[str, Any]:
    """The `response_format` that asks for what the model reads. Raises BadRequestError."""
    return format_of(*asked_of(model))


def asked_of(model: type[BaseModel]) -> tuple[Mapping[str, Any], str]:
    """The model's JSON Schema, and a name for it that providers take. Raises BadRequestError where it has none."""
    try:
        schema = model.model_json_schema(by_alias=True)
    except PydanticUserError as exc:
        raise refusal(f"there is no JSON Schema of {model.__name__}: {exc.message}.") from exc
    return schema, re.sub(r"[^A-Za-z0-9_-]", "_", model.__name__)[:64]


def format_of(schema: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The `response_format` that asks for a schema, in strict mode where that has one like it."""
    strict = _strict(schema)
    return {"type": "json_schema", "name": name, "schema": strict or schema, "strict": strict is not None}


def _strict(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """The schema as OpenAI's strict mode wants it: closed objects with every property; None where that is another."""
    strict = copy.deepcopy(dict(schema))
    return strict if _close(strict) else None


def _close(shape: Any) -> bool:
    if isinstance(shape, list):
        return all(_close(part) for part in cast("list[Any]", shape))
    if not isinstance(shape, dict):
        return True
    found = cast("dict[str, Any]", shape)
    found.pop("default", None)
    if found.get("type") == "object" or "properties" in found:
        properties: dict[str, Any] = found.setdefault("properties", {})
        if found.setdefault("additionalProperties", False) is not False or not properties:
            return False
        found["required"] = list(properties)
    inner = [*cast("dict[str, Any]", found.get("properties") or {}).values()]
    inner += [*cast("dict[str, Any]", found.get("$defs") or {}).values()]
    inner += [found[name] for name in ("items", "anyOf", "allOf", "oneOf") if name in found]
    return all(_close(part) for part in inner)
