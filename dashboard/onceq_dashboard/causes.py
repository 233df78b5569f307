"""Why jobs ended without an answer: each error code under the one who can do something about it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

Blame = Literal[
    "provider throttles", "provider is slow", "provider fails", "the caller", "a budget", "our side", "other"
]

BLAMES: Final[dict[Blame, tuple[str, ...]]] = {
    "provider throttles": ("provider_rate_limited",),
    "provider is slow": ("provider_timeout", "provider_stalled"),
    "provider fails": (
        "provider_overloaded",
        "provider_error",
        "provider_unreachable",
        "stream_broken",
        "stream_garbage",
        "stream_ended_early",
        "resume_refused",
    ),
    "the caller": (
        "provider_bad_request",
        "provider_too_large",
        "content_refused",
        "unsupported_input",
        "invalid_request",
        "cancelled",
        "disconnected",
    ),
    "a budget": ("budget_exceeded", "max_cost_exceeded"),
    "our side": (
        "provider_auth",
        "provider_forbidden",
        "provider_key_missing",
        "model_not_found",
        "worker_lost",
        "poison",
        "internal_error",
    ),
    "other": ("deadline_exceeded", "queue_timeout"),
}
"""Who is to be asked, as the service's verdicts have it (docs/phases.md); `our side` are our keys, models and workers,
`the caller` is who posted it or left it. Whom to ask where time ran out each job's own verdict tells."""

_OF: Final[dict[str, Blame]] = {code: blame for blame, codes in BLAMES.items() for code in codes}


def blame(code: str) -> Blame:
    """Who can do something about an error code; `other` where it does not tell, or is not known here."""
    return _OF.get(code, "other")


def most_first(causes: Mapping[str, int]) -> list[tuple[str, int]]:
    """Codes with how many jobs ended with each, the most frequent first, ties by name; none with a zero."""
    return sorted(((c, n) for c, n in causes.items() if n), key=lambda pair: (-pair[1], pair[0]))
