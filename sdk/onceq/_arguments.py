"""Arguments that several methods take, checked before anything is sent. No I/O."""

from __future__ import annotations

import reprlib
from math import isfinite, isnan
from numbers import Integral, Real
from typing import Any, Final, Protocol

from pydantic import TypeAdapter, ValidationError

from onceq._http import refusal
from onceq.errors import ConfigurationError
from onceq.wire import BatchId

_BATCH: Final[TypeAdapter[str]] = TypeAdapter(BatchId)


class HasId(Protocol):
    """A job, a handle or a stream."""

    @property
    def id(self) -> str | None:
        """The job's id; None for a stream that has not begun."""
        ...


JobRef = str | HasId
"""A job: its id, or what has it as `id`."""


def job_id_of(job: JobRef) -> str:
    """The job's id. Raises BadRequestError for what names no job."""
    found: Any = getattr(job, "id", None) if not isinstance(job, str) else job
    if isinstance(found, str) and found:
        return found
    raise refusal(f"job_id is a job's id, a job, its handle, or a stream that has begun, not {job!r}.")


def checked_batch(batch: str) -> str:
    """The batch's id. Raises BadRequestError for what is none."""
    try:
        return _BATCH.validate_python(batch, strict=True)
    except ValidationError:
        raise refusal(f"batch is 1 to 64 letters, digits, _ and -, not {reprlib.repr(batch)}.") from None


def checked_after(after: int) -> int:
    """The number of an event. Raises BadRequestError unless it is one, or 0."""
    if isinstance(after, Integral) and after >= 0:
        return int(after)
    raise refusal(f"after is the number of an event, or 0 for all of them, not {after!r}.")


def checked_wait_s(timeout_s: float | None) -> float | None:
    """Seconds to wait for a job. Raises BadRequestError unless they are a number, or None."""
    if timeout_s is None:
        return None
    if isinstance(timeout_s, Real) and not isnan(timeout_s):
        return float(timeout_s)
    raise refusal(f"timeout_s is a number of seconds, or None to wait as long as it takes, not {timeout_s!r}.")


def checked_timeout_s(timeout_s: float) -> float:
    """Seconds of a client. Raises ConfigurationError unless they are a number above 0."""
    if isinstance(timeout_s, Real) and isfinite(timeout_s) and timeout_s > 0:
        return float(timeout_s)
    raise ConfigurationError(f"timeout_s is a number of seconds above 0, not {timeout_s!r}.")


def checked_retries(max_retries: int) -> int:
    """How often a client tries again. Raises ConfigurationError unless it is a number from 0 on."""
    if isinstance(max_retries, Integral) and max_retries >= 0:
        return int(max_retries)
    raise ConfigurationError(f"max_retries is a number from 0 on, not {max_retries!r}.")
