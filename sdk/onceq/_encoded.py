"""Values of a request as JSON, scalars of numpy and pandas like Python's own. No I/O."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_json

from onceq._http import refusal
from onceq.errors import BadRequestError
from onceq.wire import FieldError

_PLAIN: Final = (bool, int, float, str)
_TIMES: Final = ("m", "M")
"""numpy's kinds of times, whose bare number is of a unit that nobody sees."""


def encoded(value: Any, *, exclude_none: bool = False) -> bytes:
    """The value as JSON. Raises PydanticSerializationError."""
    return to_json(value, exclude_none=exclude_none, fallback=_scalar)


def unwritable(fields: Mapping[str, Any], where: str, exc: PydanticSerializationError) -> BadRequestError:
    """The error for fields that could not be written as JSON, which names the first of them that is to blame."""
    found = next(((place, value) for place, value in _leaves(fields, where) if not _writable(value)), None)
    if found is None:  # it holds itself, is too deep, or has such a key
        return refusal(f"The request{f' {where}' if where else ''} has no form in JSON: {exc}.")
    return refusal("The request is wrong.", errors=[FieldError(loc=found[0], message=_why(found[1]))])


def _scalar(value: Any) -> Any:
    """The number, truth value or text that a scalar of an array library holds. Raises TypeError for all else."""
    kind = getattr(getattr(value, "dtype", None), "kind", None)
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 and kind not in _TIMES:
        held = value.item()
        if type(held) in _PLAIN:
            return held
    raise TypeError(f"JSON has no form for {type(value).__name__}")


def _leaves(value: Any, where: str) -> Iterator[tuple[str, Any]]:
    """All that is in it and holds nothing itself, in order, with the place of each."""
    left: list[tuple[str, Any]] = [(where, value)]
    seen: set[int] = set()
    while left:
        place, one = left.pop()
        parts = _parts(one)
        if parts is None:
            yield place, one
        elif id(one) not in seen:  # or what holds itself would have no end
            seen.add(id(one))
            left += [(f"{place}.{name}" if place else str(name), part) for name, part in reversed(parts)]


def _parts(value: Any) -> Sequence[tuple[Any, Any]] | None:
    if isinstance(value, BaseModel):
        return list(value)
    if isinstance(value, Mapping):
        return list(cast("Mapping[Any, Any]", value).items())
    return list(enumerate(cast("Sequence[Any]", value))) if isinstance(value, (list, tuple)) else None


def _writable(value: Any) -> bool:
    try:
        encoded(value)
    except PydanticSerializationError:
        return False
    return True


def _why(value: Any) -> str:
    if isinstance(value, (bytes, bytearray)):
        return "these bytes are no text: an image's data is base64 text, base64.b64encode(data).decode()"
    if isinstance(value, str):
        return "this text holds half of a surrogate pair, for which UTF-8 has no form"
    hint = ": pass its .tolist()" if hasattr(value, "tolist") and getattr(value, "ndim", 0) else ""
    return f"JSON has no form for {type(value).__name__} ({reprlib.repr(value)}){hint}"
