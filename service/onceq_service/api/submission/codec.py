"""Most requests, read by a decoder that takes them only: what it takes is the same JobRequest, what it does not is no
refusal, but left to pydantic (body.py), which knows every field and says what is wrong.

Why: of a post's CPU, pydantic's reading, writing and rewriting of the request took a fifth. Constraints are
those of the contract, read from it; tests/service/api/test_codec.py holds the two readers to each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Annotated, Any, Final, Literal, cast, get_args

import msgspec
from annotated_types import Ge, Gt, Le, MaxLen, MinLen
from pydantic import StringConstraints
from pydantic.fields import FieldInfo

from onceq.wire import Band, JobRequest, LabelKey, ModelName, Name

NONE: Final[Any] = None
"""For what is not there."""
GRACE_S: Final = cast("float", JobRequest.model_fields["disconnect_grace_s"].default)


def _constraints(found: Iterable[object]) -> msgspec.Meta:
    """The contract's limits of a value as msgspec has them. `$` is before a last newline too with Python's `re`."""
    limits: dict[str, Any] = {}
    for one in found:
        match one:
            case FieldInfo():
                return _constraints(one.metadata)
            case StringConstraints():
                pattern = one.pattern if one.pattern is None else str(one.pattern).removesuffix("$") + r"\Z"
                limits |= {"min_length": one.min_length, "max_length": one.max_length, "pattern": pattern}
            case MinLen():
                limits["min_length"] = one.min_length
            case MaxLen():
                limits["max_length"] = one.max_length
            case Ge():
                limits["ge"] = one.ge
            case Gt():
                limits["gt"] = one.gt
            case Le():
                limits["le"] = one.le
            case _:
                raise TypeError(f"the plain reader does not know the constraint {one!r}")
    return msgspec.Meta(**limits)


def _of(name: str) -> msgspec.Meta:
    """A field's, whether it may be null or not."""
    field = JobRequest.model_fields[name]
    inner = [one for kind in get_args(field.annotation) for one in getattr(kind, "__metadata__", ())]
    return _constraints(inner or field.metadata)


def _named(kind: object) -> msgspec.Meta:
    return _constraints(get_args(kind)[1:])


class Turn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A message that is text."""

    role: Literal["system", "user", "assistant"]
    content: str
    tool_calls = None
    tool_call_id = None


class FastJobRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A JobRequest without tools, formats, params, images, fallbacks, a time of its own. Null is not taken.

    Fields are in the contract's order, so that its JSON is the contract's. What has a default there is made by a
    function, since msgspec would leave out a value that is the default itself (one of C's: a lambda costs a frame).
    """

    model: Annotated[str, _named(ModelName)]
    prompt: Annotated[str, _of("prompt")] = NONE
    messages: Annotated[list[Turn], _of("messages")] = NONE
    system: str = NONE
    max_tokens: Annotated[int, _of("max_tokens")] = NONE
    temperature: Annotated[float, _of("temperature")] = NONE
    band: Band = msgspec.field(default_factory=cast("Callable[[], Band]", partial(str, "standard")))
    deadline_s: Annotated[float, _of("deadline_s")] = NONE
    max_calls: Annotated[int, _of("max_calls")] = NONE
    max_cost_usd: Annotated[float, _of("max_cost_usd")] = NONE
    on_crash: Literal["retry", "fail"] = NONE
    on_break: Literal["retry", "fail"] = NONE
    disconnect_grace_s: Annotated[float, _of("disconnect_grace_s")] = msgspec.field(
        default_factory=partial(float, GRACE_S)
    )
    dedupe_window_s: Annotated[int, _of("dedupe_window_s")] = NONE
    fresh: bool = msgspec.field(default_factory=bool)
    user: Annotated[str, _named(Name)] = NONE
    team: Annotated[str, _named(Name)] = NONE
    labels: Annotated[dict[Annotated[str, _named(LabelKey)], Annotated[str, _named(Name)]], _of("labels")] = NONE

    stop = tools = tool_choice = response_format = params = not_before = timeouts = on_disconnect = None

    @property
    def asks_once(self) -> bool:
        """The contract's rule for the whole: either a prompt or messages."""
        return (cast("object", self.prompt) is None) != (cast("object", self.messages) is None)

    @property
    def labelled(self) -> bool:
        """Whether there are labels, if only an empty set of them."""
        return cast("object", self.labels) is not None

    def models(self) -> list[str]:
        """As JobRequest's."""
        return [self.model]


_DECODE: Final = msgspec.json.Decoder(FastJobRequest).decode
_ENCODE: Final = msgspec.json.Encoder().encode


def read(body: bytes) -> JobRequest | None:
    """The request, to be read like a JobRequest; None where only pydantic can tell what the body is.

    Of a JobRequest's methods it has `models` alone; `dump` and `unlabelled` write it.
    """
    try:
        fast = _DECODE(body)
    except (msgspec.MsgspecError, ValueError):
        return None
    return cast("JobRequest", fast) if fast.asks_once else None


def dump(request: JobRequest) -> bytes:
    """As its worker will read it."""
    if isinstance(cast("object", request), FastJobRequest):
        return _ENCODE(request)
    return request.model_dump_json(exclude_none=True, by_alias=True).encode()


def unlabelled(request: JobRequest, dumped: bytes) -> bytes:
    """All of it but what has keys of the client's choice; `dumped` is what `dump` makes of it."""
    if isinstance(cast("object", request), FastJobRequest):
        fast = cast("FastJobRequest", request)
        return _ENCODE(msgspec.structs.replace(fast, labels=None)) if fast.labelled else dumped
    rest = request.model_copy(update={"params": None, "tools": None, "response_format": None, "labels": None})
    return rest.model_dump_json(exclude_none=True).encode()
