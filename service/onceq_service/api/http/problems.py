"""Every refusal of the API: a stable code, what happened, to which job, what to do next; sent as problem+json
(RFC 9457)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, cast
from urllib.parse import quote

import structlog
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from onceq.errors import OnceqError
from onceq.wire import BudgetRefusal, ErrorCode, FieldError, Problem
from onceq.wire.validation import issues_of
from onceq_service.api.http.replies import Headers, Reply
from onceq_service.logs import without_words
from onceq_service.store import JobNotFound, KeyReused, StoreFull, StoreUnavailable, TooManyKeys

log = structlog.get_logger("onceq.api")

MEDIA_TYPE: Final = b"application/problem+json"
STATUS: Final[dict[ErrorCode, int]] = {
    "bad_request": 400, "malformed_json": 400, "malformed_idempotency_key": 400, "malformed_last_event_id": 400,
    "last_event_id_ahead": 400, "unauthorized": 401, "unpriced_model": 402, "unbounded_cost": 402,
    "max_cost_exceeded": 402, "budget_exceeded": 402, "forbidden": 403, "job_not_found": 404,
    "batch_not_found": 404, "not_found": 404,
    "method_not_allowed": 405, "request_timeout": 408, "job_not_ended": 409, "budget_exists": 409,
    "budget_read_only": 409,
    "too_many_budgets": 409, "too_many_keys": 409, "payload_too_large": 413, "unsupported_media_type": 415,
    "invalid_request": 422, "idempotency_key_reused": 422, "unknown_model": 422, "provider_not_served": 422,
    "rate_limited": 429, "headers_too_large": 431,
    "internal_error": 500, "parquet_unavailable": 501, "store_unavailable": 503, "store_full": 503,
}  # fmt: skip
MAX_ERRORS: Final = 20
"""Field errors named in one answer; a long list of messages can be wrong in thousands of places."""
MAX_COLLECTED: Final = 5_000
"""Of more, none is named: pydantic makes all of them or none, at 6 us each."""
MAX_LOC: Final = 200
_TIME: Final = "give a time with its offset, like 2026-11-30T16:20:00Z"
_PLAIN: Final = {
    "extra_forbidden": "there is no such parameter here: /openapi.json lists those there are",
    "datetime_from_date_parsing": _TIME, "datetime_parsing": _TIME, "timezone_aware": _TIME,
}  # fmt: skip
"""What pydantic says in words of its own, by its type."""
_IN_A_PATH: Final = "/:@!$&'()*+,;=~"
"""What a path may hold as it is (RFC 3986); `instance` is a reference, not what somebody has sent."""


class Refused(OnceqError):  # noqa: N818 - reads as what happened
    """A request that gets a problem for an answer; nothing was done for it."""

    def __init__(
        self,
        code: ErrorCode,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        retry_after_s: int | None = None,
        headers: Headers = (),
        budget: BudgetRefusal | None = None,
    ) -> None:
        super().__init__(detail)
        self.code, self.detail, self.errors = code, detail, list(errors) or None
        self.status, self.budget = STATUS[code], budget
        retry = [(b"retry-after", b"%d" % retry_after_s)] if retry_after_s is not None else []
        self.headers: Headers = [*retry, *headers]

    def problem(self, path: str | None = None) -> Problem:
        """The answer's body; `path` is what was asked for."""
        title = self.code.replace("_", " ").capitalize()
        return Problem(
            title=title, status=self.status, code=self.code, detail=self.detail,
            instance=None if path is None else quote(path, safe=_IN_A_PATH), errors=self.errors, budget=self.budget,
        )  # fmt: skip

    def reply(self, path: str | None = None) -> Reply:
        """The whole answer."""
        body = self.problem(path).model_dump_json(exclude_none=True).encode()
        return Reply(self.status, body, [(b"content-type", MEDIA_TYPE), *self.headers])


def refusal_of(exc: Exception) -> Refused | None:
    """What to answer to an error of the store; None when it is nobody's fault but ours."""
    match exc:
        case Refused():
            return exc
        case KeyReused() | TooManyKeys():
            return Refused(cast("ErrorCode", exc.code), str(exc))
        case JobNotFound():
            return Refused("job_not_found", "No job with this key or question is here (any more). Nothing was stored.")
        case StoreFull():
            return store_full()
        case StoreUnavailable():
            detail = (
                "The queue's Redis can't be reached; nothing is lost. Try again, a post with the same Idempotency-Key."
            )
            return Refused("store_unavailable", detail, retry_after_s=1)
        case _:
            return None


def answer_to(exc: Exception, doing: str) -> Refused:
    """The refusal for any exception. One that nobody foresaw is logged by its kind and place: its own words could
    hold a prompt."""
    refused = refusal_of(exc)
    if refused is None:
        log.error("a request failed", doing=doing, **without_words(exc))
        refused = internal_error()
    return refused


def store_full() -> Refused:
    """New work is shed so that running jobs can end."""
    detail = "The queue's Redis is above 85 % of its memory; nothing was stored. Try again later."
    return Refused("store_full", detail, retry_after_s=5)


def internal_error() -> Refused:
    """Our fault; the log has the cause."""
    return Refused("internal_error", "Something broke in the service; its log has the cause. Trying again is safe.")


def job_not_found(job_id: str, result_ttl_s: int) -> Refused:
    """The same for a job that never was, one of another tenant, and one that is older than its retention."""
    return Refused(
        "job_not_found",
        f"There is no job {job_id[:50]} for this API key. A job is kept for {span(result_ttl_s)} after its end; if "
        "it is older, it is gone: post the request again.",
    )


def span(seconds: int) -> str:
    """A time for people: `24 h`, `90 s`."""
    return f"{seconds // 3600} h" if seconds and seconds % 3600 == 0 else f"{seconds} s"


def invalid(exc: ValidationError, kind: type[BaseModel], sent: Callable[[], Any]) -> Refused:
    """400 for what is not JSON, 422 with the wrong fields otherwise; the values that were sent are never repeated.

    `sent` gives what was to be a `kind`, as JSON has it; it is asked for when it is JSON.
    """
    if (many := exc.error_count()) > MAX_COLLECTED:
        return invalid_field("", f"it is wrong in {many:,} places; up to {MAX_COLLECTED:,} of them would be looked at")
    found = exc.errors(include_url=False, include_input=False)
    if found[0]["type"] == "json_invalid":
        return Refused("malformed_json", f"The body is not JSON: {_after_colon(found[0]['msg'])}.")
    wrong = issues_of(found, sent())
    return _invalid_fields([one.field_error(kind) for one in wrong[:MAX_ERRORS]], len(wrong))


def invalid_query(found: Sequence[ErrorDetails]) -> Refused:
    """422 that names what is wrong with a query, place by place; at most MAX_ERRORS places."""
    errors = [FieldError(loc=".".join(map(str, e["loc"])), message=_message(e)) for e in found[:MAX_ERRORS]]
    return _invalid_fields(errors, len(found))


def _invalid_fields(errors: Sequence[FieldError], total: int) -> Refused:
    more = f" (the first {MAX_ERRORS} of {total})" if total > MAX_ERRORS else ""
    short = [error.model_copy(update={"loc": error.loc[:MAX_LOC]}) for error in errors]
    return Refused(
        "invalid_request", f"The request is not valid: see errors{more}.{_unless_asked(short)}", errors=short
    )


def invalid_field(loc: str, message: str) -> Refused:
    """422 for one field."""
    errors = [FieldError(loc=loc, message=message)]
    return Refused("invalid_request", f"The request is not valid: see errors.{_unless_asked(errors)}", errors=errors)


def _unless_asked(errors: Sequence[FieldError]) -> str:
    """What a wrong body wants to know, and a wrong question does not."""
    return "" if any(error.loc.startswith("query") for error in errors) else " Nothing was stored."


def _message(e: ErrorDetails) -> str:
    return _PLAIN.get(e["type"]) or e["msg"].removeprefix("Value error, ")


def _after_colon(message: str) -> str:
    return message.partition(": ")[2] or message
