"""Where a job's time went, and who is to blame where it was slow or failed."""

from __future__ import annotations

from typing import Final, Literal

from onceq.wire.words import Answer

Verdict = Literal["queue", "our_code", "provider_slow", "provider_throttled", "budget", "client_slow"]
VERDICTS: Final[tuple[Verdict, ...]] = (
    "queue", "our_code", "provider_slow", "provider_throttled", "budget", "client_slow",
)  # fmt: skip


class Phases(Answer):
    """Seconds by phase over all tries of a job, in the order of its life; they sum to `Timings.total_s` exactly.

    Each millisecond is in one phase. A try that failed is in the phases that it passed through; one that was lost with
    its worker is `worker_s` as a whole.
    """

    accept_s: float = 0.0
    """The request was read, and not yet on record: our API and Redis."""
    scheduled_s: float = 0.0
    """Until the job's own `not_before`: asked for."""
    budget_s: float = 0.0
    """A budget let it wait."""
    queue_s: float = 0.0
    """No worker was free, or the limits that we set ourselves (lane limits, a pause) held it."""
    limiter_s: float = 0.0
    """The provider's limits held it: after a 429, by its Retry-After, or by limits learned from its answers."""
    backoff_s: float = 0.0
    """Between two tries, after the provider failed or a stream broke; and while the lane's breaker was open."""
    worker_s: float = 0.0
    """Our worker: from claim to the call's record, its event loop blocked in mid-call, and calls lost with a worker."""
    connect_s: float = 0.0
    """From the call's record until the provider had the whole request."""
    provider_ttft_s: float = 0.0
    """From there to the provider's first token; of a try without one, to its end."""
    generation_s: float = 0.0
    """From the first token to the end of the provider's answer, without stalls."""
    stalls_s: float = 0.0
    """Gaps of more than a second within the answer."""
    delivery_s: float = 0.0
    """From the provider's last byte until text and terminal event were durable: our worker and Redis."""


PHASES: Final[tuple[str, ...]] = tuple(name.removesuffix("_s") for name in Phases.model_fields)
"""The phases' names without their unit, in order."""
