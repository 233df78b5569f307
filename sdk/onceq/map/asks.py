"""What is asked of the service for a row, and under which keys: pure.

Two keys belong to a row. The *content* key is over what decides the answer (the map's name, model, prompt, parameters,
number of the sample): it finds the row in the local cache. The idempotency key is over all that is sent, and the
attempt: it makes the service answer with the same job, on this machine or another, as long as it knows the key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from onceq._encoded import encoded
from onceq._submission import DEDUPE_WINDOW_S, Prompt, encoded_item

NOT_IN_CONTENT: Final = frozenset({
    "band", "deadline_s", "not_before", "timeouts", "max_calls", "on_crash", "on_break", "team", "labels",
})  # fmt: skip
"""Options that change when, for whom or how often a row is asked, and not its answer."""


@dataclass(slots=True, eq=False)
class Ask:
    """One distinct request of a map, and the rows that wait for it. `key` is its content key."""

    key: bytes
    prompt: Prompt
    sample: int
    slots: list[int] = field(default_factory=list[int])
    """Which rows of the result are filled with it; the first one is charged."""
    generation: str = ""
    """Set where a new sample was asked for (`fresh`)."""
    attempt: int = 0
    """How often it failed before."""
    create: bool = True
    """False: it is known to have been asked before, so the service may answer, and not make a job."""
    job_id: str | None = None
    """The job that it was before, where that is remembered."""
    bound: int = 0
    """nano-USD that are set aside for it."""
    most: int | None = None
    """nano-USD that it may cost at most; None: not asked yet."""


class RequestTemplate:
    """Everything that the requests of one map have in common."""

    def __init__(self, name: str, fields: Mapping[str, Any]) -> None:
        self.fields = dict(fields)
        content = {key: value for key, value in fields.items() if key not in NOT_IN_CONTENT}
        self._content = hashlib.sha256(_canonical([name, content]))
        self._whole = hashlib.sha256(_canonical([name, self.fields]))

    def content_key(self, prompt: Prompt, sample: int) -> bytes:
        """16 bytes that say which question this is."""
        return _over(self._content, prompt, sample).digest()[:16]

    def idempotency_key(self, ask: Ask) -> str:
        """The key of the ask's present attempt."""
        return f"map-{_over(self._whole, ask.prompt, ask.sample, ask.generation, ask.attempt).hexdigest()}"

    def request(self, ask: Ask) -> dict[str, Any]:
        """The fields of the ask's job. The window joins an equal question that is asked under other keys meanwhile."""
        asked: dict[str, Any] = {"prompt" if isinstance(ask.prompt, str) else "messages": ask.prompt}
        window = {"fresh": True} if ask.sample or ask.generation else {"dedupe_window_s": DEDUPE_WINDOW_S}
        return {**self.fields, **asked, **window}

    def item(self, ask: Ask) -> bytes:
        """The ask as an item of a batch. Raises BadRequestError."""
        return encoded_item(self.request(ask), self.idempotency_key(ask), create=ask.create)


def _over(prefix: Any, *parts: Any) -> Any:
    digest = prefix.copy()
    digest.update(b"\0" + _canonical(list(parts)))
    return digest


def _canonical(value: Any) -> bytes:
    """JSON in which the order of keys does not matter."""
    return encoded(_sorted(value))


def _sorted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _sorted(value[key]) for key in sorted(value, key=str)}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - any JSON
    if isinstance(value, (list, tuple)):
        return [_sorted(part) for part in value]  # pyright: ignore[reportUnknownVariableType] - any JSON
    if hasattr(value, "model_dump"):
        return _sorted(value.model_dump(mode="json", by_alias=True, exclude_none=True))
    return value
