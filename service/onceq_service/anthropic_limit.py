"""How long an answer Anthropic is asked for: what is sent (providers) and what it may cost at most (pricing) agree."""

from __future__ import annotations

from typing import Final

from onceq.wire import JobRequest

DEFAULT_MAX_TOKENS: Final = 4_096
"""Anthropic requires `max_tokens`. This is the smallest output limit of any Claude model (Claude 3 Haiku, Anthropic's
models overview), so every model takes it; an answer cut by it says `finish_reason: length`."""


def anthropic_max_tokens(request: JobRequest) -> int:
    """The request's own `max_tokens`, else the default beside thinking's budget.

    Thinking counts toward max_tokens and must be smaller, so the answer's share is added.
    """
    if request.max_tokens is not None:
        return request.max_tokens
    thinking = (request.params or {}).get("thinking")
    budget = thinking.get("budget_tokens") if isinstance(thinking, dict) else None
    return DEFAULT_MAX_TOKENS + (budget if isinstance(budget, int) else 0)
