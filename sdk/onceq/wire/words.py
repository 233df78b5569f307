"""The words of the contract: statuses, bands, scopes, error codes, limits; what requests and answers have in common."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, datetime
from decimal import ROUND_FLOOR, Decimal
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

Status = Literal["queued", "running", "succeeded", "failed", "cancelled", "expired"]
Disposition = Literal["created", "joined", "replayed"]
Durability = Literal["strict", "relaxed"]
Band = Literal["interactive", "standard", "batch"]
Scope = Literal["submit", "read", "cancel", "admin", "operator"]
EventName = Literal[
    "queued",
    "started",
    "delta",
    "reset",
    "retrying",
    "snapshot",
    "succeeded",
    "failed",
    "cancelled",
    "expired",
]
DeltaKind = Literal["text", "reasoning", "tool_call"]
FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "other"]
TERMINAL: Final[frozenset[str]] = frozenset({"succeeded", "failed", "cancelled", "expired"})
"""A job in one of these states never changes again (G1); an event of one of these names is the last of its log (G6)."""
BANDS: Final[tuple[Band, ...]] = ("interactive", "standard", "batch")
SCOPES: Final[tuple[Scope, ...]] = ("submit", "read", "cancel", "admin", "operator")
SCOPE_MAY: Final[dict[Scope, str]] = {
    "submit": "post jobs and ask again",
    "read": "see jobs, answers, costs and budgets",
    "cancel": "cancel jobs",
    "admin": "everything in its tenant, keys and budgets too",
    "operator": "all of that, keys and budgets of every tenant too; pause models and bands",
}
"""What a key of each scope may do."""
NANO: Final = 1_000_000_000
"""nano-USD in one US dollar."""
MAX_BODY_BYTES: Final = 8 * 1024 * 1024
"""Largest request body the API reads; more is a 413. Room for a 5 MB prompt with its JSON escapes."""
MAX_BATCH: Final = 1_000
"""Most items of one POST /v1/jobs/batch."""
JOB_ID_PATTERN: Final = r"^job_[0-9a-f]{32}$"
IDEMPOTENCY_KEY_PATTERN: Final = r"^[\x21-\x7e]{1,255}$"
TENANT_PATTERN: Final = r"^[A-Za-z0-9_-]{1,64}$"
ErrorCode = Literal[
    # the request, answered as problem+json
    "bad_request", "request_timeout", "headers_too_large",
    "invalid_request", "malformed_json", "malformed_idempotency_key", "malformed_last_event_id",
    "last_event_id_ahead", "unauthorized", "forbidden", "job_not_found", "batch_not_found", "job_not_ended",
    "not_found", "method_not_allowed", "idempotency_key_reused", "payload_too_large", "unsupported_media_type",
    "unknown_model", "provider_not_served", "unpriced_model", "unbounded_cost", "budget_exceeded", "budget_exists",
    "budget_read_only", "too_many_budgets", "too_many_keys", "rate_limited", "store_unavailable", "store_full",
    "internal_error", "parquet_unavailable",
    # the job, in Job.error
    "provider_bad_request", "provider_auth", "provider_forbidden", "model_not_found", "provider_too_large",
    "content_refused", "provider_rate_limited", "provider_overloaded", "provider_error", "provider_unreachable",
    "provider_timeout", "provider_stalled", "stream_broken", "stream_garbage", "stream_ended_early",
    "unsupported_input", "provider_key_missing", "deadline_exceeded", "queue_timeout", "resume_refused", "worker_lost",
    "poison", "cancelled", "max_cost_exceeded", "disconnected",
    # the client
    "connection_failed", "stream_lost", "wait_timeout", "not_configured",
]  # fmt: skip
Name = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""A person's word for a user, team or label: printable, no control characters."""
BatchId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
"""A client's own name for jobs that it follows together."""
TenantName = Annotated[str, StringConstraints(pattern=TENANT_PATTERN)]
"""Whose jobs and keys they are. It is part of names in Redis, so it has nothing that parts them."""
LabelKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,62}$")]
ModelName = Annotated[str, StringConstraints(min_length=1, max_length=300, pattern=r"^[^\s\x00-\x20\x7f]+$")]
FIRST_MOMENT: Final = datetime(1970, 1, 1, tzinfo=UTC)
LAST_MOMENT: Final = datetime(9999, 1, 1, tzinfo=UTC)
_RFC3339: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d")


def nano_usd_of(usd: float) -> int:
    """Nano-USD of US dollars, never more than was said."""
    return int((Decimal(repr(float(usd))) * NANO).to_integral_value(rounding=ROUND_FLOOR))


def _written_out(value: object) -> object:
    if isinstance(value, datetime) or (isinstance(value, str) and _RFC3339.match(value)):
        return value
    raise ValueError("give a time with its offset as RFC 3339 writes it: 2026-11-30T16:20:00Z")


def _in_utc(value: datetime) -> datetime:
    if not FIRST_MOMENT <= value < LAST_MOMENT:
        raise ValueError("give a time between the years 1970 and 9998")
    return value.astimezone(UTC)


def _within(value: datetime) -> datetime:
    return max(FIRST_MOMENT, min(value, LAST_MOMENT)).astimezone(UTC)


Moment = Annotated[AwareDatetime, Field(strict=False), AfterValidator(_in_utc), BeforeValidator(_written_out)]
"""A time that a client names, in UTC from here on. A bare number is none: whether of seconds or ms would be a guess."""
RangeEnd = Annotated[AwareDatetime, AfterValidator(_within)]
"""Where a range of what has happened begins or ends, in UTC from here on: any time before 1970 is as good as that."""


def allows(scopes: Collection[Scope], scope: Scope) -> bool:
    """Whether a key of these scopes may do what needs that one: `operator` has all, `admin` all within its tenant."""
    if "operator" in scopes:
        return True
    return scope in scopes or ("admin" in scopes and scope != "operator")


class Request(BaseModel):
    """A value that a client sends: unknown fields are refused, nothing is coerced from another type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())


class Answer(BaseModel):
    """A value that the service sends: may grow, so unknown fields are kept out of the way of old readers."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())
