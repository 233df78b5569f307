"""Everything about an answer that can be set: by flag, by PUT /control, by a directive in the prompt.

The same names in all three places. A directive beats the control, which beats the flags, which beat the defaults.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec

from onceq_service.simulator.ask import RefusedError

Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
Amount = Annotated[float, msgspec.Meta(ge=0)]


class Knobs(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One layer of settings; None means that the layer below decides.

    tokens       length of the answer without its reasoning
    tps          tokens per second; 0 is as fast as possible
    ttft_ms      time from the request to the first token
    seed         of the text; by default a hash of the request's content
    text         answer exactly this
    reasoning    tokens of reasoning before the answer
    cached       input tokens reported as read from the provider's cache
    cache_write  input tokens reported as written to it
    tool         call this tool ("1": the first one offered; "a,b": two calls)
    args         the call's arguments, as JSON
    stop         stop | length | tool | refusal | filter, or a provider's own word
    fault        a name from faults.py
    times        the fault happens to the first so many calls with this prompt; without it to all
    after        tokens before a fault in mid-stream
    retry_after  seconds in the Retry-After header of a refusal
    slow_ms      further wait before the first token, for the fault `slow`
    resumable    seconds for which a background response is streamed again; later it can only be polled
    rpm          requests per minute and model before a 429; 0 is no limit, and no header that tells of one
    tpm          the same of tokens; where the format tells input and output apart, of each
    """

    tokens: Count | None = None
    tps: Amount | None = None
    ttft_ms: Amount | None = None
    seed: int | None = None
    text: str | None = None
    reasoning: Count | None = None
    cached: Count | None = None
    cache_write: Count | None = None
    tool: str | None = None
    args: str | None = None
    stop: str | None = None
    fault: str | None = None
    times: Count | None = None
    after: Count | None = None
    retry_after: Amount | None = None
    slow_ms: Amount | None = None
    resumable: Amount | None = None
    rpm: Count | None = None
    tpm: Count | None = None

    def over(self, below: Knobs) -> Knobs:
        """This layer on top of another one."""
        return msgspec.structs.replace(below, **set_of(self))


BUILT_IN = Knobs(tokens=80, tps=60.0, ttft_ms=150.0, slow_ms=10_000.0, after=5, resumable=300.0)
"""A pleasant speed to watch; the reasoning and cache counts are 0 unless asked for."""

_DIRECTIVE = re.compile(r"\[\[sim\b(.*?)\]\]", re.DOTALL)
_SETTING = re.compile(r"""\s*(\w+)=("(?:[^"\\]|\\.)*"|'[^']*'|\S+)""")


def set_of(knobs: Knobs) -> dict[str, object]:
    """What this layer sets itself, by name."""
    values: dict[str, object] = msgspec.structs.asdict(knobs)
    return {name: value for name, value in values.items() if value is not None}


def read_directive(texts: Sequence[str]) -> Knobs:
    """The last `[[sim name=value ...]]` in the texts; empty without one, RefusedError (400) when it can't be read."""
    found = [match for text in texts if "[[sim" in text for match in _DIRECTIVE.findall(text)]
    if not found:
        return Knobs()
    inside: str = found[-1]
    if left := _SETTING.sub("", inside).strip():
        raise RefusedError(400, f"[[sim]]: {left!r} is not of the form name=value")
    pairs: list[tuple[str, str]] = _SETTING.findall(inside)
    return to_knobs({name: _unquote(value) for name, value in pairs})


def to_knobs(settings: Mapping[str, object]) -> Knobs:
    """Settings as text or JSON to knobs; RefusedError (400) names the ones that exist."""
    try:
        return msgspec.convert(settings, Knobs, strict=False)
    except msgspec.ValidationError as exc:
        known = ", ".join(Knobs.__struct_fields__)
        raise RefusedError(400, f"{exc}. Known settings: {known}") from exc


def _unquote(value: str) -> str:
    if value[:1] == '"' == value[-1:]:
        return msgspec.json.decode(value, type=str, strict=False)
    return value[1:-1] if value[:1] == "'" == value[-1:] else value
