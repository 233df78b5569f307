"""What goes over the wire and what it means, without I/O: both clients stand on it.

A `Call` is one HTTP request. A flow is a generator that yields calls, is sent what became of each, and returns a
value or raises an error of `onceq.errors`; a client drives it with a socket (`_client.py`, `_async_client.py`).
Retries live here: a call that is repeated may arrive twice, and does no more than once (reads, cancel, changes to a
value, deletions, and posts that carry an Idempotency-Key). Flows send anything else with `Backoff(0)`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import Any, Final, TypedDict, TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from onceq._config import Config
from onceq._trace import trace_headers
from onceq.errors import (
    APIError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    ConnectionFailed,
    IdempotencyKeyReused,
    NotFoundError,
    PaymentRequiredError,
    PermissionDeniedError,
    RateLimitError,
    ServiceUnavailableError,
)
from onceq.wire import ErrorCode, FieldError, Problem
from onceq.wire.validation import issues_of

T = TypeVar("T")

Outcome = httpx2.Response | httpx2.RequestError
"""What became of a call: an answer that has been read, or the error that the transport met."""

RETRYABLE_STATUS: Final = frozenset({408, 429, 500, 502, 503, 504})
LONGEST_RETRY_AFTER_S: Final = 60.0
"""A `Retry-After` beyond this is handed to the caller instead of slept through."""
GRACE_S: Final = 1.0
"""How long after its deadline an answer may come."""


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request below the base URL. `after_s`: seconds to wait before it is sent."""

    method: str
    path: str
    params: Mapping[str, str | Sequence[str]] = field(default_factory=dict[str, str | Sequence[str]])
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    content: bytes | None = None
    read_timeout_s: float | None = None
    after_s: float = 0.0


Flow = Generator[Call, Outcome, T]


@dataclass(frozen=True, slots=True)
class Backoff:
    """How often to try again, and how long to wait before: full jitter below a ceiling that doubles.

    Five retries take 3.9 s on average and 7.8 s at most; the jitter keeps clients that failed together apart.
    """

    max_retries: int = 5
    base_s: float = 0.25
    cap_s: float = 8.0

    def pause_s(self, retry: int, retry_after_s: float | None = None) -> float | None:
        """Seconds to wait before retry number `retry` (from 1); None when no further retry is due."""
        if retry > self.max_retries or (retry_after_s or 0) > LONGEST_RETRY_AFTER_S:
            return None
        ceiling_s = min(self.cap_s, self.base_s * 2 ** (retry - 1))
        spread = random.random()  # noqa: S311 - jitter, not a secret
        return retry_after_s + spread * self.base_s if retry_after_s is not None else spread * ceiling_s


PATIENT: Final = Backoff(max_retries=12)
"""For following a job that goes on anyway: pauses of 32 s on average and 64 s at most, in all, without any progress."""


IDLE_S: Final = 30.0
"""An idle connection is given up after this long, before a proxy or balancer closes it (often after 60 s; our API after
75 s): a request that is sent in that moment is lost, and what must not be sent again fails."""


class ClientOptions(TypedDict):
    """What both kinds of httpx2 client are built with."""

    base_url: str
    headers: dict[str, str]
    limits: httpx2.Limits
    trust_env: bool


def client_options(config: Config) -> ClientOptions:
    """Options for a pool that never makes a stream wait for another, and never sends the key to a proxy in between."""
    return {
        "base_url": config.base_url,
        "headers": {"authorization": f"Bearer {config.api_key}", "user-agent": f"onceq-python/{version('onceq')}"},
        "limits": httpx2.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=IDLE_S),
        "trust_env": not config.is_local,
    }


def timeout(read_s: float) -> httpx2.Timeout:
    """Separate clocks: 1 to 5 s to connect, 30 s to write a body, `read_s` for each read, no wait for the pool."""
    return httpx2.Timeout(connect=min(5.0, max(1.0, read_s)), write=30.0, read=read_s, pool=None)


def exchange(call: Call, backoff: Backoff, until: float | None = None) -> Flow[httpx2.Response]:
    """Send `call` until it is answered with a success; the same call, so the same Idempotency-Key, every time.

    Raises the typed error of the last attempt. None begins after `until` (as `time.monotonic` counts), but the first,
    and none is waited for more than GRACE_S longer.
    """
    retry = 0
    if call.method == "POST":
        call = replace(call, headers={**call.headers, **trace_headers()})
    while True:
        outcome = yield call if until is None else _bounded(call, until)
        if isinstance(outcome, httpx2.Response) and (outcome.is_success or (retry and is_gone(call, outcome))):
            return outcome
        retry += 1
        pause_s = backoff.pause_s(retry, retry_after_s(outcome)) if is_retryable(outcome) else None
        if pause_s is None or (until is not None and time.monotonic() + pause_s > until):
            raise error_of(outcome) from (outcome if isinstance(outcome, Exception) else None)
        call = replace(call, after_s=pause_s)


def is_gone(call: Call, response: httpx2.Response) -> bool:
    """Whether a deletion found nothing: for one that is sent again, that the one whose answer was lost had arrived.

    onceq itself must say so: some balancers answer 404 while no service is up.
    """
    return call.method == "DELETE" and response.status_code == 404 and _problem(response).code == "not_found"


def _bounded(call: Call, until: float) -> Call:
    left_s = max(0.0, until - time.monotonic() - call.after_s) + GRACE_S
    return replace(call, read_timeout_s=min(call.read_timeout_s or left_s, left_s))


def is_retryable(outcome: Outcome) -> bool:
    """Whether the same call may fare better in a moment."""
    if isinstance(outcome, httpx2.Response):
        return outcome.status_code in RETRYABLE_STATUS
    return isinstance(outcome, httpx2.TransportError)


def retry_after_s(outcome: Outcome) -> float | None:
    """The answer's `Retry-After` in seconds (RFC 9110: a number or a date), None without one."""
    raw = outcome.headers.get("retry-after") if isinstance(outcome, httpx2.Response) else None
    if raw is None:
        return None
    if raw.strip().isdigit():
        return float(raw)
    try:
        return max(0.0, (parsedate_to_datetime(raw) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):  # not a date, or one without a zone
        return None


def read(validate: Callable[[bytes], T], response: httpx2.Response) -> T:
    """The answer's body as a value. Raises APIError when it is not one: then something else answers at that URL."""
    try:
        return validate(response.content)
    except ValidationError as exc:
        raise unexpected(response) from exc


def unexpected(response: httpx2.Response) -> APIError:
    """The error for a success that onceq would not have sent: a proxy, a login page, another program."""
    kind = response.headers.get("content-type", "no content type")
    detail = f"{_place(response.request)} does not answer as onceq does (got {kind}): check the base URL"
    return APIError(
        Problem(title="Unexpected answer", status=response.status_code, code="unexpected_answer", detail=detail)
    )


def error_of(outcome: Outcome) -> APIError | ConnectionFailed:
    """The typed error for an answer that is no success, or for a transport error."""
    if isinstance(outcome, httpx2.Response):
        return problem_error(_problem(outcome), retry_after_s(outcome))
    reason = f"{type(outcome).__name__}: {outcome}".rstrip(": ")
    return ConnectionFailed(
        f"onceq did not answer at {_place(outcome.request)} ({reason}). "
        "Is `onceq up` running? If it runs elsewhere, pass base_url or set ONCEQ_BASE_URL."
    )


def problem_error(problem: Problem, wait_s: float | None = None) -> APIError:
    """The error class for a problem: by its code, else by its status."""
    if problem.code == "idempotency_key_reused":
        return IdempotencyKeyReused(problem, wait_s)
    default = ServiceUnavailableError if problem.status >= 500 else APIError
    return _BY_STATUS.get(problem.status, default)(problem, wait_s)


def refused(exc: ValidationError, sent: Any, kind: type[BaseModel], where: str = "") -> BadRequestError:
    """The error for what was to be a `kind` and was found wrong before it was sent, with the service's own words."""
    found = issues_of(exc.errors(include_url=False, include_input=False), sent)
    return refusal("The request is wrong.", errors=[wrong.field_error(kind, where) for wrong in found])


def refusal(
    what: str, code: ErrorCode = "invalid_request", status: int = 422, errors: list[FieldError] | None = None
) -> BadRequestError:
    """An error of the request that the client itself has noticed."""
    detail = f"{what} Nothing was sent."
    return BadRequestError(Problem(title="Invalid request", status=status, code=code, detail=detail, errors=errors))


_BY_STATUS: Final[dict[int, type[APIError]]] = {
    400: BadRequestError,
    401: AuthenticationError,
    402: PaymentRequiredError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    410: NotFoundError,
    413: BadRequestError,
    415: BadRequestError,
    422: BadRequestError,
    429: RateLimitError,
}


def _problem(response: httpx2.Response) -> Problem:
    try:
        return Problem.model_validate_json(response.content)
    except ValidationError:  # not ours: a proxy in between, or a crash before our handlers
        detail = f"{response.status_code} {response.reason_phrase} from {_place(response.request)}"
        return Problem(
            title=response.reason_phrase or "Error",
            status=response.status_code,
            code="unexpected_answer",
            detail=detail,
        )


def _place(request: httpx2.Request) -> str:
    return str(request.url.copy_with(query=None, fragment=None))
