"""Every error that onceq raises.

```text
OnceqError                        the root: `code` is stable, the message says what happened and what to do next
├── ConfigurationError            a setting, file or key is missing or unusable; nothing was sent
├── APIError                      the service answered with a problem: `.status`, `.code`, `.detail`, `.retry_after_s`
│   ├── BadRequestError           400, 413, 415, 422: the request is wrong as it stands
│   │   └── IdempotencyKeyReused  422: the same Idempotency-Key was used before with another body
│   ├── AuthenticationError       401: no key, or one that is not known
│   ├── PaymentRequiredError      402: it may cost more than is allowed, by the job's own limit or a budget
│   ├── PermissionDeniedError     403: the key lacks the scope
│   ├── NotFoundError             404: no such job for this key
│   ├── ConflictError             409
│   ├── RateLimitError            429: too fast; nothing was used up
│   └── ServiceUnavailableError   5xx: the service or its Redis is away; nothing was lost, try again
├── ConnectionFailed              the service could not be reached; Python's ConnectionError too
├── StreamLost                    a job's events could not be followed to their end; the job itself goes on
├── WaitTimeout                   the job did not end in the time given; it goes on; Python's TimeoutError too
└── JobError                      the job ended without an answer: `.job` has the partial output
    ├── JobFailed
    ├── JobCancelled
    └── JobExpired
```
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onceq.wire import Job, Problem

_Pickled = tuple[type, tuple[Any, ...], dict[str, Any]]


class OnceqError(Exception):
    """The root of all errors of onceq."""

    code: str = "error"


class ConfigurationError(OnceqError):
    """A setting, file or key is missing or unusable; nothing was sent."""

    code = "not_configured"


class APIError(OnceqError):
    """The service answered with a problem. `retry_after_s` is what it asked us to wait, None where it did not."""

    def __init__(self, problem: Problem, retry_after_s: float | None = None) -> None:
        lines = [f"{problem.detail} [{problem.status} {problem.code}]"]
        lines += [f"  {e.loc}: {e.message}" if e.loc else f"  {e.message}" for e in problem.errors or []]
        super().__init__("\n".join(lines))
        self.problem = problem
        self.status = problem.status
        self.code = problem.code
        self.detail = problem.detail
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> _Pickled:  # or a process pool would build it from its message, and break
        return type(self), (self.problem, self.retry_after_s), self.__dict__


class BadRequestError(APIError):
    """400, 413, 415, 422: the request is wrong as it stands; sending it again changes nothing."""


class IdempotencyKeyReused(BadRequestError):  # noqa: N818 - the field's word
    """422: the same Idempotency-Key was used before with another body."""


class AuthenticationError(APIError):
    """401: no API key, or one that is not known."""


class PaymentRequiredError(APIError):
    """402: it may cost more than is allowed, by the job's own `max_cost_usd` or by a budget; nothing was stored."""


class PermissionDeniedError(APIError):
    """403: the API key lacks the scope that this needs."""


class NotFoundError(APIError):
    """404: no such job for this key (another tenant's job looks the same)."""


class ConflictError(APIError):
    """409: what was asked does not fit the state of the job."""


class RateLimitError(APIError):
    """429: too fast; nothing was used up."""


class ServiceUnavailableError(APIError):
    """5xx: the service or its Redis is away; what was accepted is safe, try again."""


class ConnectionFailed(OnceqError, ConnectionError):  # noqa: N818 - reads as what happened
    """The service could not be reached. It is a ConnectionError too, for code that knows those."""

    code = "connection_failed"


class StreamLost(OnceqError):  # noqa: N818 - reads as what happened
    """A job's events could not be followed to their end; the job itself goes on."""

    code = "stream_lost"


class WaitTimeout(OnceqError, TimeoutError):  # noqa: N818 - reads as what happened
    """The job did not end in the time given; it goes on, and can be waited for again. It is a TimeoutError too."""

    code = "wait_timeout"


class JobError(OnceqError):
    """The job ended without an answer; `job` has its error and what had arrived of the text."""

    def __init__(self, job: Job) -> None:
        error = job.error
        self.code = error.code if error else job.status
        reason = f": {error.message.replace(f'job {job.id}', 'it')} [{error.code}]" if error else ""
        super().__init__(f"job {job.id} {job.status}{reason}")
        self.job = job

    def __reduce__(self) -> _Pickled:  # as APIError's
        return type(self), (self.job,), self.__dict__


class JobFailed(JobError):  # noqa: N818 - named as the state
    """The job failed."""


class JobCancelled(JobError):  # noqa: N818 - named as the state
    """The job was cancelled."""


class JobExpired(JobError):  # noqa: N818 - named as the state
    """The job's deadline passed before it had an answer."""
