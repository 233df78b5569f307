"""What is wrong with a request, in the words of who sent it: pydantic's errors as places in what was sent.

The SDK says it before a request is sent, the service after. A message never repeats a value, as it may be a prompt.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import isnan
from typing import Any, Final, cast, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from onceq.wire.jobs import FieldError
from onceq.wire.requests import RESERVED_PARAMS

Place = tuple[int | str, ...]
Kind = type[BaseModel]

LIKE: Final = 0.75
"""How like a name must be to one that exists to be taken for it: `max_token` is, `top_p` is not meant for `stop`."""
_LONGEST_NAME: Final = 50
_TWINS: Final = {
    "max_completion_tokens": "max_tokens", "max_output_tokens": "max_tokens", "stop_sequences": "stop",
    "instructions": "system", "input": "prompt", "functions": "tools",
    "timeout": "timeouts",
}  # fmt: skip
"""What providers call what onceq has a name of its own for."""
_OPENAI: Final = {
    ("tools.*", "function"): "a tool is {'name': ..., 'description': ..., 'parameters': ...}, with no 'type' and no "
    "'function' around it",
    ("tool_choice", "function"): "the tool that must be called is {'name': ...}, with no 'type' and no 'function'",
    ("messages.*.tool_calls.*", "function"): "a tool call is {'id': ..., 'name': ..., 'arguments': ...}, with no "
    "'type' and no 'function' around it",
    ("response_format", "json_schema"): "a JSON Schema goes in as {'type': 'json_schema', 'name': ..., 'schema': ...}",
}  # fmt: skip
"""OpenAI's shapes of what onceq writes flat, by where they are and what they have too much."""
_PATTERNS: Final = {
    "data": "an image's data is base64 text, with no 'data:' before it",
    "url": "an image's url begins with http:// or https://; base64 text goes into data",
}


@dataclass(frozen=True, slots=True)
class Issue:
    """One thing that is wrong: where, what stands there, and what pydantic says of it, or `hint` in its stead."""

    place: Place
    value: Any
    error: ErrorDetails
    of_branch: bool = False
    """It says that what stands there is not one of the things that it may be."""
    hint: str = ""

    def field_error(self, kind: Kind, where: str = "") -> FieldError:
        """To who meant to send a `kind`; `where` goes before the place."""
        loc = ".".join(map(str, (where, *self.place) if where else self.place))
        return FieldError(loc=loc, message=self.hint or _message(self, kind))


def issues_of(found: Sequence[ErrorDetails], sent: Any) -> list[Issue]:
    """Each thing that is wrong with `sent`, which is as JSON has it.

    pydantic names the branches of a union among the places, and tells what is wrong with each branch: what is not in
    `sent` is no place, and the branch that got furthest was meant.
    """
    return _without_openai(_meant([_issue(error, sent) for error in found]))


def _issue(error: ErrorDetails, sent: Any) -> Issue:
    place: list[int | str] = []
    value: Any = sent
    loc, kept = error["loc"], True
    for n, part in enumerate(loc):
        last, held = n == len(loc) - 1, _holds(value, part)
        kept = (held and (last or not _is_tag(value, part))) or (last and error["type"] == "missing")
        if kept:
            place.append(part)
            value = value[part] if held else None
    return Issue(tuple(place), value, error, of_branch=not kept)


def _holds(value: Any, part: int | str) -> bool:
    if isinstance(value, Mapping):
        return part in value
    return isinstance(value, list) and isinstance(part, int) and part < len(cast("list[Any]", value))


def _is_tag(value: Any, part: int | str) -> bool:
    """Whether it names the branch: a text part has a `text` too."""
    return isinstance(value, Mapping) and cast("Mapping[Any, Any]", value).get("type") == part


def _meant(found: list[Issue]) -> list[Issue]:
    """Without what is said of branches when another branch got further, or fits but for its bounds."""
    passed = {one.place[:n] for one in found for n in range(len(one.place))}
    fitting = {one.place for one in found if one.of_branch and not _is_other_type(one)}
    return [
        one
        for one in found
        if not one.of_branch or not (one.place in passed or (_is_other_type(one) and one.place in fitting))
    ]


def _is_other_type(one: Issue) -> bool:
    return one.error["type"].endswith("_type")


def _without_openai(found: list[Issue]) -> list[Issue]:
    """With one hint at onceq's shape instead of all that is wrong with OpenAI's."""
    hints = {one.place[:-1]: hint for one in found if (hint := _hint(one))}
    kept: dict[tuple[Place, int], Issue] = {}
    for n, one in enumerate(found):
        outer = next((one.place[:k] for k in range(len(one.place) + 1) if one.place[:k] in hints), None)
        if outer is None:
            kept[one.place, n] = one
        else:
            kept.setdefault((outer, -1), Issue(outer, None, one.error, hint=hints[outer]))
    return list(kept.values())


def _hint(one: Issue) -> str | None:
    if one.error["type"] != "extra_forbidden":
        return None
    outer = ".".join("*" if isinstance(part, int) else part for part in one.place[:-1])
    return _OPENAI.get((outer.removeprefix("job."), str(one.place[-1])))


def _message(one: Issue, kind: Kind) -> str:
    error, last = one.error, one.place[-1] if one.place else None
    match error["type"]:
        case "extra_forbidden":
            return _unknown(str(last), _model_at(kind, one.place[:-1]))
        case "union_tag_invalid":
            return _other_part(error)
        case "union_tag_not_found":
            return "a part of a message needs a type: 'text' or 'image'"
        case "string_pattern_mismatch" if last in _PATTERNS:
            return _PATTERNS[str(last)]
        case _ if isinstance(one.value, float) and isnan(one.value):
            return f"must be a number{_bounds(_model_at(kind, one.place[:-1]), str(last))}, not NaN"
        case _:
            return error["msg"].removeprefix("Value error, ")


def _other_part(error: ErrorDetails) -> str:
    context = error.get("ctx", {})
    if context.get("tag") == "image_url":
        return "an image is {'type': 'image', 'url': 'https://...'}, or 'data' (base64 text) with its 'media_type'"
    return f"the type of this part is not known: it is one of {context.get('expected_tags')}"


def _bounds(kind: Kind | None, name: str) -> str:
    """From where to where a field may go; nothing where that is not said."""
    shape: Any = {} if kind is None else kind.model_json_schema().get("properties", {}).get(name, {})
    for part in (shape, *shape.get("anyOf", ())):
        low, above, high = (part.get(word) for word in ("minimum", "exclusiveMinimum", "maximum"))
        if high is not None:
            return f" from {low:g} to {high:g}" if low is not None else f" above {above or 0:g}, at most {high:g}"
    return ""


def _unknown(name: str, kind: Kind | None) -> str:
    """What to do with a name that there is none of."""
    name = name[:_LONGEST_NAME]
    told = f"no option {name}"
    names = [] if kind is None else list(_fields(kind))
    reserved = name in RESERVED_PARAMS and "params" in names
    twin = _TWINS.get(name)
    like = [twin] if twin in names else [] if reserved else difflib.get_close_matches(name, names, 1, LIKE)
    if like:
        return f"{told}: did you mean {like[0]}?"
    if reserved:
        return f"{told}: onceq itself decides it"
    if name == "idempotency_key":
        return f"{told}: it is the header Idempotency-Key, or stands beside the job in a batch"
    if "params" in names:
        return f"{told}: what the provider takes beside these goes into params={{{name!r}: ...}}"
    return f"{told} here" + (f": there are {', '.join(names)}" if names else "")


@cache
def _fields(kind: Kind) -> dict[str, Any]:
    """The types of its fields, by what they are called when they are sent."""
    return {field.alias or name: field.annotation for name, field in kind.model_fields.items()}


def _model_at(kind: Kind, place: Place) -> Kind | None:
    """The model that stands at a place; None where there may be several, or none."""
    found: Kind | None = kind
    for part in place:
        if isinstance(part, str):
            models = [] if found is None else _models_in(_fields(found).get(part))
            found = models[0] if len(models) == 1 else None
    return found


def _models_in(annotation: Any) -> list[Kind]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]
