"""What went wrong at a provider, in onceq's words: one table for statuses, one for the names that providers use.

A message says what happened and what to do. It never holds a key, a header, or a piece of the prompt: what a provider
wrote is quoted only when it repeats nothing of the request (`quotable`).
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from onceq.wire import ErrorCode, JobRequest, TextPart
from onceq_service.providers.base import CallSpec, Cause, ProviderError

QUOTED_CHARS = 300
"""Most characters of a provider's own message that are repeated in ours."""
_WINDOW, _STRIDE = 16, 8
"""A run of 23 characters of the prompt in a provider's message is found for certain; 37 searches, even in 5 MB."""
_KEY = re.compile(r"\b(?:sk|pk|key|rk)-[\w*.\-]{6,}|\bBearer\s+\S+|\b(?:AKIA|ASIA)\w{8,}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Meaning:
    """One row of the table: the code, what it does to the job, the sentence that says so."""

    code: ErrorCode
    cause: Cause
    what: str
    todo: str


AUTH = Meaning(
    "provider_auth", "rejected", "does not accept our key", "Check the key that the worker was started with."
)
FORBIDDEN = Meaning(
    "provider_forbidden",
    "rejected",
    "does not allow this call to our account",
    "Ask for access to the model, or use another one.",
)
NO_FUNDS = Meaning(
    "provider_forbidden", "rejected", "has no credit left on our account", "Pay the account up, then replay the job."
)
BAD_REQUEST = Meaning("provider_bad_request", "rejected", "refuses the request as it stands", "Change the request.")
NO_MODEL = Meaning(
    "model_not_found", "rejected", "does not know the model", "Check the model's name and that our account may use it."
)
TOO_LARGE = Meaning("provider_too_large", "rejected", "finds the request too large", "Send less.")
REFUSED = Meaning(
    "content_refused", "rejected", "refuses to answer this content", "Change the content; it is not tried again."
)
LIMITED = Meaning(
    "provider_rate_limited", "refused", "limits our rate", "It is tried again when the provider allows it."
)
NO_QUOTA = Meaning(
    "provider_rate_limited",
    "refused",
    "says that our account's quota is used up",
    "Raise the quota or wait for the next period.",
)
OVERLOADED = Meaning("provider_overloaded", "refused", "is overloaded", "It is tried again.")
FAILED = Meaning("provider_error", "refused", "failed before it began to answer", "It is tried again.")
UNREACHABLE = Meaning(
    "provider_unreachable", "refused", "can't be reached", "Check the network and the base URL; it is tried again."
)
MOVED = Meaning(
    "provider_unreachable",
    "rejected",
    "answers with a redirect, which is not followed: the prompt would go to an address that nobody has set",
    "Set the provider's base_url to the address where its API is.",
)
TIMED_OUT = Meaning("provider_timeout", "timeout", "did not answer in time", "It may be billed; see first_byte_s.")
STALLED = Meaning(
    "provider_stalled", "broken", "went silent in the middle of its answer", "It may be billed; see between_bytes_s."
)
CUT = Meaning("stream_broken", "broken", "cut the connection before the end of its answer", "It may be billed.")
GARBAGE = Meaning("stream_garbage", "broken", "sent an answer that can't be decoded", "It may be billed.")
ENDED_EARLY = Meaning("stream_ended_early", "broken", "ended its answer without the end marker", "It may be billed.")
BROKE_OVERLOADED = Meaning(
    "provider_overloaded", "broken", "became overloaded in the middle of its answer", "It may be billed."
)
BROKE_LIMITED = Meaning(
    "provider_rate_limited", "broken", "limited our rate in the middle of its answer", "It may be billed."
)
BROKE = Meaning("provider_error", "broken", "failed in the middle of its answer", "It may be billed.")
UNSUPPORTED = Meaning(
    "unsupported_input", "rejected", "has no way to take a part of the request", "Change the request."
)
RESUME_REFUSED = Meaning(
    "resume_refused",
    "rejected",
    "no longer has the response that was under way",
    "The job keeps its text so far; replay it to ask anew.",
)
NO_KEY = Meaning(
    "provider_key_missing", "rejected", "can't be called without credentials", "Start the worker with them."
)

_BY_STATUS: Mapping[int, Meaning] = {
    401: AUTH, 402: NO_FUNDS, 403: FORBIDDEN, 404: NO_MODEL, 408: TIMED_OUT, 409: FAILED, 413: TOO_LARGE,
    425: FAILED, 429: LIMITED, 503: OVERLOADED, 529: OVERLOADED,
}  # fmt: skip

_BY_NAME: Mapping[str, Meaning] = {
    # openai and those that speak its format name a code or a type
    "insufficient_quota": NO_QUOTA, "content_policy_violation": REFUSED, "content_filter": REFUSED,
    "model_not_found": NO_MODEL, "context_length_exceeded": BAD_REQUEST, "invalid_api_key": AUTH,
    # anthropic names its error's type
    "authentication_error": AUTH, "billing_error": NO_FUNDS, "permission_error": FORBIDDEN, "not_found_error": NO_MODEL,
    "request_too_large": TOO_LARGE, "overloaded_error": OVERLOADED,
    # bedrock names the exception
    "UnrecognizedClientException": AUTH, "ExpiredTokenException": AUTH, "InvalidSignatureException": AUTH,
    "IncompleteSignature": AUTH, "MissingAuthenticationTokenException": AUTH, "InvalidClientTokenId": AUTH,
    "AccessDeniedException": FORBIDDEN, "ResourceNotFoundException": NO_MODEL, "ThrottlingException": LIMITED,
    "ServiceQuotaExceededException": LIMITED, "ModelTimeoutException": TIMED_OUT, "ModelErrorException": FAILED,
    "ServiceUnavailableException": OVERLOADED, "ModelNotReadyException": OVERLOADED,
}  # fmt: skip
"""Names that say more than the status they come with."""

_IN_STREAM: Mapping[str, Meaning] = {
    "overloaded_error": BROKE_OVERLOADED, "serviceUnavailableException": BROKE_OVERLOADED,
    "rate_limit_error": BROKE_LIMITED, "rate_limit_exceeded": BROKE_LIMITED, "throttlingException": BROKE_LIMITED,
    "server_overloaded": BROKE_OVERLOADED, "overloaded": BROKE_OVERLOADED, "slow_down": BROKE_OVERLOADED,
    "server_is_overloaded": BROKE_OVERLOADED, "service_unavailable_error": BROKE_OVERLOADED,
    "503": BROKE_OVERLOADED, "529": BROKE_OVERLOADED, "429": BROKE_LIMITED,
    "invalid_request_error": BAD_REQUEST, "validationException": BAD_REQUEST, "content_filter": REFUSED,
    "content_policy_violation": REFUSED, "authentication_error": AUTH, "permission_error": FORBIDDEN,
}  # fmt: skip

_BY_MESSAGE: tuple[tuple[str, Meaning], ...] = (
    ("content filtering policy", REFUSED),  # anthropic: a 400 invalid_request_error
    ("content management policy", REFUSED),  # azure: a 400
    ("model identifier is invalid", NO_MODEL),  # bedrock: a 400 ValidationException
)
"""Where neither status nor name tell the case, only the words of a 400 do."""


def from_status(
    spec: CallSpec, provider: str, status: int, names: Iterable[str], said: str, headers: Mapping[str, str]
) -> ProviderError:
    """The error for an HTTP answer of 300 or more. `names` are the provider's own codes, the most telling first."""
    named = next((_BY_NAME[n] for n in names if n in _BY_NAME), None) if status >= 400 else None
    meaning = _by_words(status, said) or named or _by_status(status)
    return error(
        spec, provider, meaning, said=said, status=status, retry_after_s=retry_after_s(headers), hint=f"status {status}"
    )


def from_event(spec: CallSpec, provider: str, names: Iterable[str], said: str) -> ProviderError:
    """The error for an error event inside a 200 stream: it came after the first byte, so it may be billed (G3)."""
    found = [_IN_STREAM[n] for n in names if n in _IN_STREAM]
    # OpenAI calls an overload a `server_error`, as any failure: only the message tells them apart.
    unnamed = BROKE_OVERLOADED if "overloaded" in said.lower() else BROKE
    meaning = _by_words(400, said) or (found[0] if found else unnamed)
    return error(spec, provider, meaning, said=said, may_be_billed=True)


def error(
    spec: CallSpec,
    provider: str,
    meaning: Meaning,
    *,
    said: str = "",
    hint: str = "",
    status: int | None = None,
    retry_after_s: float | None = None,
    may_be_billed: bool | None = None,
) -> ProviderError:
    """The one place where a ProviderError is written: `<provider> <what> (<hint>): <what it said> <what to do>`."""
    quote = quotable(said, spec.request)
    sentence = f"{provider} {meaning.what} ({spec.model_id}{', ' + hint if hint else ''})"
    message = f"{sentence}: {quote}. {meaning.todo}" if quote else f"{sentence}. {meaning.todo}"
    return ProviderError(
        meaning.code,
        message,
        cause=meaning.cause,
        status=status,
        retry_after_s=retry_after_s,
        may_be_billed=may_be_billed,
    )


def quotable(said: str, request: JobRequest) -> str:
    """The provider's message on one line, shortened, keys blanked; empty when it repeats a piece of the request."""
    text = " ".join(_KEY.sub("[key]", said[: 4 * QUOTED_CHARS]).split())[:QUOTED_CHARS].rstrip(". !")
    return "" if _echoes(text, request) else text


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait from `retry-after-ms` (OpenAI, Anthropic) or `Retry-After` (RFC 9110: seconds or a date).

    None where there is none, or it can't be read; never negative.
    """
    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _number(value)
    return seconds if seconds is not None or value is None else _until(value)


def _by_words(status: int, said: str) -> Meaning | None:
    if status != 400:
        return None
    return next((meaning for words, meaning in _BY_MESSAGE if words in said), None)


def _by_status(status: int) -> Meaning:
    if 300 <= status < 400:
        return MOVED
    return _BY_STATUS.get(status) or (FAILED if status >= 500 else BAD_REQUEST)


def _number(value: str | None) -> float | None:
    try:
        number = float(value) if value else math.nan
    except ValueError:
        return None
    return max(0.0, number) if math.isfinite(number) else None


def _until(date: str) -> float | None:
    try:
        return max(0.0, parsedate_to_datetime(date).timestamp() - time.time())
    except ValueError:
        return None


def _echoes(message: str, request: JobRequest) -> bool:
    """Whether the message has a short text whole, or a piece of a longer one."""
    pieces = [message[i : i + _WINDOW] for i in range(0, max(1, len(message) - _WINDOW + 1), _STRIDE)]
    return any(_repeats(message, pieces, " ".join(text.split())) for text in _texts(request))


def _repeats(message: str, pieces: list[str], text: str) -> bool:
    if len(text) < _WINDOW:
        return len(text) > 3 and text in message
    return any(len(piece) == _WINDOW and piece in text for piece in pieces)


def _texts(request: JobRequest) -> Iterable[str]:
    yield request.system or ""
    for turn in request.turns():
        if isinstance(turn.content, str):
            yield turn.content
        for part in turn.content if isinstance(turn.content, list) else ():
            yield part.text if isinstance(part, TextPart) else part.url or part.data or ""
        for call in turn.tool_calls or ():
            yield call.arguments
