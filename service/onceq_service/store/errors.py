"""What the store raises."""

from __future__ import annotations

from collections.abc import Mapping

from onceq.errors import OnceqError


class StoreError(OnceqError):
    """Redis answered with something that it should not; the message says what."""

    code = "internal_error"


class StoreUnavailable(StoreError):  # noqa: N818 - the field's word
    """Redis can't be reached, or is loading: nothing was decided, try again."""

    code = "store_unavailable"


class StoreDenied(StoreUnavailable):
    """Redis refuses our user: its name, its password, or what it may do."""


class StoreFull(StoreError):  # noqa: N818 - the field's word
    """Redis is at its memory limit: nothing was stored, running jobs go on."""

    code = "store_full"


class CostTooHigh(StoreError):  # noqa: N818 - reads as what happened
    """A new job whose first call may cost more than the job's own limit; nothing was stored."""


class JobNotFound(OnceqError):  # noqa: N818 - reads as what happened
    """A request that was to join or replay a job alone, and there is none."""

    code = "job_not_found"


class BudgetRefused(StoreError):  # noqa: N818 - reads as what happened
    """A new job whose first call may not fit a budget; nothing was stored.

    `word`: `over_budget`, `unbounded` (nobody knows what a call may cost), or `stale` (the budget has changed since it
    was looked up). `facts`: `account`, and for `over_budget` `left`, `needed`, `limit` (nano-USD) and `renews` (ms).
    """

    code = "budget_exceeded"

    def __init__(self, word: str, facts: Mapping[str, bytes]) -> None:
        super().__init__(f"budget {facts['account'].decode()}: {word}")
        self.word, self.facts = word, facts


class KeyReused(OnceqError):  # noqa: N818 - the field's word
    """The Idempotency-Key was used before with another body; `job_id` is the job that it made."""

    code = "idempotency_key_reused"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"This Idempotency-Key made job {job_id} from another body; use a new key for a new request.")
        self.job_id = job_id


class TooManyKeys(OnceqError):  # noqa: N818 - reads as what happened
    """The tenant has as many API keys as it may have."""

    code = "too_many_keys"


class LeaseLost(OnceqError):  # noqa: N818 - the field's word
    """The worker no longer holds the job: another one does, or it has ended. Drop the call, write nothing more."""

    code = "worker_lost"
