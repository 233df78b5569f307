"""The ways in which a provider misbehaves, by name.

before the first byte   400 401 403 404 413 429 500 503 529 (any status from 400 on), quota, drop, hang
after the headers       half, slow
after k tokens          cut, end, stall, garbage, error, overload
in the answer itself    refusal, filter
"""

from __future__ import annotations

from dataclasses import dataclass

from onceq_service.simulator.ask import RefusedError
from onceq_service.simulator.knobs import Knobs

MEANING = {
    "quota": "429 that no waiting cures: the account's quota is used up",
    "drop": "the connection is closed before any byte",
    "hang": "the request is accepted and never answered",
    "half": "headers, then nothing",
    "slow": "headers and the opening events, then the first token only after slow_ms",
    "cut": "the connection breaks after k tokens",
    "end": "the answer ends cleanly after k tokens, without its end marker",
    "stall": "nothing more comes after k tokens, the connection stays open",
    "garbage": "a corrupt chunk after k tokens; the rest follows",
    "error": "an error event inside a 200 stream after k tokens: the provider failed",
    "overload": "the same: the provider has too much to do",
    "refusal": "the model declines in words",
    "filter": "the provider's content filter ends the answer",
}
MID_STREAM = frozenset({"cut", "end", "stall", "garbage", "error", "overload"})
ERROR_EVENTS = frozenset({"error", "overload"})
IN_THE_ANSWER = frozenset({"refusal", "filter"})

MESSAGES = {
    400: "The request is not valid.",
    401: "The API key is not valid.",
    403: "This key may not use this model.",
    404: "The model does not exist or you do not have access to it.",
    413: "The request is too large.",
    429: "Rate limit reached, please slow down.",
    500: "The server had an error while processing your request.",
    503: "The service is temporarily unavailable.",
    529: "Overloaded",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault for one call. `status` is 0 unless the call is refused."""

    name: str
    status: int = 0
    after: int = 0
    retry_after_s: float | None = None

    def refusal(self) -> RefusedError:
        """The error answer, for a fault with a status."""
        code = "insufficient_quota" if self.name == "quota" else None
        message = "You exceeded your current quota." if code else MESSAGES.get(self.status, "Simulated error.")
        return RefusedError(self.status, message, code=code, retry_after_s=self.retry_after_s)


def read_fault(knobs: Knobs) -> Fault | None:
    """The fault these settings name; None without one, RefusedError (400) for a name that does not exist."""
    name = knobs.fault
    if not name or name == "none":
        return None
    status = _status_of(name)
    retry_after_s = knobs.retry_after if knobs.retry_after is not None else (1.0 if name == "429" else None)
    return Fault(name, status, knobs.after or 0, retry_after_s)


def _status_of(name: str) -> int:
    if name in MEANING:
        return 429 if name == "quota" else 0
    if name.isdigit() and 400 <= int(name) < 600:
        return int(name)
    raise RefusedError(400, f"unknown fault {name!r}; known: a status from 400 to 599, {', '.join(MEANING)}")
