"""Why jobs ended without an answer: each error code under the one who can do something about it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

Blame = Literal[
    "provider throttles", "provider is slow", "provider fails", "the request", "access", "our side", "other"
]

BLAMES: Final[dict[Blame, tuple[str, ...]]] = {
    "provider throttles": ("provider_rate_limited", "provider_overloaded"),
    "provider is slow": ("provider_timeout", "provider_stalled"),
    "provider fails": (
        "provider_error",
        "provider_unreachable",
        "stream_broken",
        "stream_garbage",
        "stream_ended_early",
        "resume_refused",
    ),
    "the request": (
        "provider_bad_request",
        "model_not_found",
        "provider_too_large",
        "content_refused",
        "unsupported_input",
        "max_cost_exceeded",
    ),
    "access": ("provider_auth", "provider_forbidden", "provider_key_missing"),
    "our side": ("deadline_exceeded", "queue_timeout", "worker_lost", "poison", "cancelled", "disconnected"),
}
"""Who is to be asked. `our side` is everything between the post and the provider, the people who cancel included."""

_OF: Final[dict[str, Blame]] = {code: blame for blame, codes in BLAMES.items() for code in codes}


def blame(code: str) -> Blame:
    """Who can do something about an error code; `other` for one that this dashboard does not know."""
    return _OF.get(code, "other")


def most_first(causes: Mapping[str, int]) -> list[tuple[str, int]]:
    """Codes with how many jobs ended with each, the most frequent first, ties by name; none with a zero."""
    return sorted(((c, n) for c, n in causes.items() if n), key=lambda pair: (-pair[1], pair[0]))
