"""What both OpenAI formats share: the key, the error body, the headers, the error in a stream."""

from __future__ import annotations

from onceq_service.simulator.ask import RefusedError
from onceq_service.simulator.dialect import Incoming, Limits, RawHeaders, Reply, retry_after
from onceq_service.simulator.frames import encode
from onceq_service.simulator.script import Script

CODES: dict[int, tuple[str, str | None]] = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "unsupported_country_region_territory"),
    404: ("invalid_request_error", "model_not_found"),
    413: ("invalid_request_error", "request_too_large"),
    429: ("requests", "rate_limit_exceeded"),
    500: ("server_error", None),
    503: ("service_unavailable_error", None),
}
"""Status to `type` and `code` of the error body."""


def check_key(incoming: Incoming) -> None:
    """RefusedError (401) without a bearer token; any token will do."""
    scheme, _, token = incoming.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise RefusedError(401, "You didn't provide an API key.")


def refuse(refused: RefusedError, request_id: str) -> Reply:
    """OpenAI's error answer."""
    kind, code = CODES.get(refused.status, ("server_error", None))
    if refused.code == "insufficient_quota":
        kind = refused.code
    error = {"message": refused.message, "type": kind, "param": None, "code": refused.code or code}
    headers = [(b"content-type", b"application/json"), (b"x-request-id", request_id.encode())]
    return Reply(refused.status, [*headers, *retry_after(refused)], encode({"error": error}))


def headers(request_id: str, script: Script, limits: Limits) -> RawHeaders:
    """OpenAI's headers of a good answer."""
    named = {
        "x-request-id": f"req_{request_id}",
        "openai-organization": "onceq-simulator",
        "openai-version": "2020-10-01",
        "openai-processing-ms": f"{script.ttft_s * 1000:.0f}",
    }
    for name, quota in (("requests", limits.requests), ("tokens", limits.tokens)):
        if quota is not None:
            named[f"x-ratelimit-limit-{name}"] = str(quota.limit)
            named[f"x-ratelimit-remaining-{name}"] = str(quota.remaining)
            named[f"x-ratelimit-reset-{name}"] = f"{limits.reset_s:g}s"
    return [(name.encode(), value.encode()) for name, value in named.items()]


def stream_error(fault: str) -> dict[str, object]:
    """The error object inside a 200 stream. Only its words tell an overload (faults.py) from a failure."""
    failed = "The server had an error processing your request. Sorry about that!"
    return {
        "message": "The model is currently overloaded with other requests." if fault == "overload" else failed,
        "type": "server_error",
        "param": None,
        "code": "server_error",
    }
