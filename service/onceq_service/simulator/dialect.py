"""What a wire format has to offer; one class each in openai_chat, openai_responses, anthropic and bedrock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

import msgspec
from starlette.datastructures import Headers

from onceq_service.simulator.ask import Ask, Provider, RefusedError
from onceq_service.simulator.frames import Frame
from onceq_service.simulator.script import Script

RawHeaders = list[tuple[bytes, bytes]]
Body = TypeVar("Body")


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request as it arrived; `model` and `action` are those of the path, where the format puts them there."""

    headers: Headers
    body: bytes
    model: str = ""
    action: str = ""


@dataclass(frozen=True, slots=True)
class Quota:
    """So much a minute, and so much of it used up in this one."""

    limit: int
    used: int

    @property
    def remaining(self) -> int:
        """What is left, never below 0."""
        return max(0, self.limit - self.used)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the rate limit headers say of this minute, each None where there is no limit; `reset_s`: its rest."""

    requests: Quota | None
    tokens: Quota | None
    """Input and output together."""
    input: Quota | None
    output: Quota | None
    reset_s: float


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer."""

    status: int
    headers: RawHeaders
    body: bytes


class Dialect(Protocol):
    """One wire format, both ways. Nothing in it does I/O or knows about pacing, faults or money."""

    provider: Provider
    stream_type: bytes

    def read(self, incoming: Incoming) -> Ask:
        """Understand the request; RefusedError (400, 401, 403) otherwise."""
        ...

    def frames(self, script: Script) -> Iterator[Frame]:
        """The answer as a stream, ending with a `last` frame."""
        ...

    def whole(self, script: Script) -> bytes:
        """The answer in one piece."""
        ...

    def headers(self, request_id: str, script: Script, limits: Limits) -> RawHeaders:
        """Headers of a good answer, content-type and length aside."""
        ...

    def refuse(self, refused: RefusedError, request_id: str) -> Reply:
        """The provider's own error answer."""
        ...

    def error_event(self, fault: str, sent: int) -> bytes:
        """An error (faults.ERROR_EVENTS) in the middle of a stream, after so many frames."""
        ...

    def garbage(self) -> bytes:
        """A chunk that its decoder can't read."""
        ...


def decode(body: bytes, kind: type[Body]) -> Body:
    """The request's JSON; RefusedError (400) says what is wrong with it."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, RecursionError) as exc:
        raise RefusedError(400, f"Could not read the request: {exc}") from exc


def retry_after(refused: RefusedError) -> RawHeaders:
    """The Retry-After header in seconds, where the refusal has one."""
    if refused.retry_after_s is None:
        return []
    return [(b"retry-after", f"{refused.retry_after_s:g}".encode())]
