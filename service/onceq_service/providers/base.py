"""What every provider is to the worker: one Protocol, one kind of stream, one kind of error.

The worker decides about retries, billing and waste; a provider's file only shapes the request, reads the answer, and
translates what went wrong at this one door. Provider SDKs never retry by themselves (G3).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

import msgspec

from onceq.wire import DeltaKind, FinishReason, JobRequest, Output
from onceq_service.settings import ProviderKind

Cause = Literal["refused", "rejected", "broken", "timeout"]
"""`refused`: turned away before any work (429, 5xx before the first byte, connection refused): not billed, try again.
`rejected`: the request itself is wrong or not allowed (400, 401, 403, 404, 413, 422, content refusal): never again.
`broken`: the stream was cut, stalled or turned to garbage before its end marker: may be billed.
`timeout`: no answer came within the time for the first byte: may be billed."""
LONGEST_WAIT_S: Final = 3600.0
"""Longest that an answer holds a lane: one whose limit is a daily one looks again after an hour, and learns anew."""


class Delta(msgspec.Struct, frozen=True):
    """A piece of the answer. For a `tool_call`, `text` is a fragment of the arguments of the call number `index`."""

    kind: DeltaKind
    text: str
    index: int = 0
    id: str | None = None
    name: str | None = None
    at: int = -1
    """The provider's number of the event that it came with, where a response can be taken up again behind it."""


@dataclass(frozen=True, slots=True)
class Resume:
    """A background response that is under way: its id, the last event that readers have, and what they have."""

    response: str
    at: int
    output: Output


@dataclass(frozen=True, slots=True)
class Clocks:
    """Seconds that a call may take: to the first byte of the answer, and between two bytes."""

    first_byte_s: float = 120.0
    between_bytes_s: float = 60.0


@dataclass(frozen=True, slots=True)
class RateLimits:
    """What a provider says of a lane's limits a minute, 0 where it says nothing.

    `requests_used`: by whomever, this one too, of the requests that are allowed now; 0 where it is not told.
    `wait_s`: seconds until there is something again of what is used up; 0 while something of everything remains.
    """

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    requests_used: int = field(default=0, compare=False)
    wait_s: float = 0.0

    def packed(self) -> str:
        """The limits as the scripts keep them, see settings.LaneLimits."""
        return f"{self.requests},{self.input_tokens},{self.output_tokens},0"


@dataclass(frozen=True, slots=True)
class CallSpec:
    """One call: the client's request, the provider's own model id, and the id that the provider gets to see of it."""

    request: JobRequest
    model_id: str
    client_request_id: str
    """`<job id>/<call number>`, sent as `X-Client-Request-Id`, so that a provider's support (or meter) can find it."""
    clocks: Clocks = field(default_factory=Clocks)
    background: bool = False
    """Run it so that another worker can take it up again; only where the provider `can_resume`."""
    resume: Resume | None = None
    """Go on with this response instead of beginning one: no new bill."""


class ProviderError(Exception):
    """A call that did not end with an answer: `code` is stable (wire.ErrorCode), `cause` decides what happens next."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        cause: Cause,
        status: int | None = None,
        retry_after_s: float | None = None,
        may_be_billed: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.cause: Cause = cause
        self.status = status
        self.retry_after_s = retry_after_s
        self.may_be_billed = cause in ("broken", "timeout") if may_be_billed is None else may_be_billed
        """Whether the provider had begun to work. Follows from the cause, except for a `rejected` that came as an event
        inside a 200 stream: never to be tried again (G4), and yet perhaps paid for (G5)."""


Take = Callable[[list[Delta]], bool]
"""Takes the deltas of one read; False when its owner has to come and wait before the next one. Never raises."""


class CallStream(Protocol):
    """An answer as it comes in.

    Iterate it for batches: one list of deltas per read of the socket, never an object per token where it can be helped;
    it is empty when `response` has become known, and when what `hand_to` names has no room. When the iteration ends
    without an error the provider's end marker has been seen, and `finish_reason` is set. `usage` is the provider's own
    final usage object as plain JSON (what genai-prices' `extract_usage` finds under `usage`), None until it was
    reported; it may be there although the stream broke. Raises ProviderError, nothing else.
    """

    @property
    def finish_reason(self) -> FinishReason | None:
        """None until the provider said why it stopped."""
        ...

    @property
    def answered(self) -> bool:
        """Whether the end marker was seen: the answer is whole, though its usage or the stream's end may yet come."""
        ...

    @property
    def usage(self) -> Mapping[str, object] | None:
        """See above."""
        ...

    @property
    def early_usage(self) -> Mapping[str, object] | None:
        """What is known of a broken call's usage: the input side (Anthropic tells it first); outputs are not final."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Lower-case response headers (request id)."""
        ...

    @property
    def rate_limits(self) -> RateLimits | None:
        """What the headers tell of the provider's limits; None where they tell nothing."""
        ...

    @property
    def response(self) -> str | None:
        """The id of a background response; None for other calls, and until it is known."""
        ...

    @property
    def api_flavor(self) -> str | None:
        """genai-prices' name for the shape of this answer's `usage`, None for the provider's own."""
        ...

    @property
    def price_context(self) -> Mapping[str, str]:
        """What the answer says of its own price, as genai-prices names it (`service_tier`); empty without a word."""
        ...

    def left(self) -> list[Delta]:
        """What was read and not handed over, since whoever iterates did not come back for it; once."""
        ...

    def hand_to(self, take: Take) -> None:
        """Reads that come while somebody waits in the iteration may be given to `take` at once, from the socket's own
        callback: waking a task for each token is a third of what it costs. The iteration has the rest."""
        ...

    def __aiter__(self) -> AsyncIterator[list[Delta]]: ...


class Provider(Protocol):
    """One configured provider: its connections, opened at worker start and closed at its stop, in one event loop."""

    @property
    def kind(self) -> ProviderKind:
        """Whose wire format it speaks."""
        ...

    @property
    def price_provider(self) -> str:
        """The provider's id in genai-prices: `openai`, `anthropic`, `aws`."""
        ...

    @property
    def price_url(self) -> str | None:
        """The base URL, by which genai-prices knows other hosts of the same wire format; None for Bedrock."""
        ...

    @property
    def api_flavor(self) -> str:
        """genai-prices' name for the shape of `usage`: `chat`, `default`, ..."""
        ...

    @property
    def can_resume(self) -> bool:
        """Whether a call of it can run in the background and be taken up again by another worker."""
        ...

    async def abandon(self, response: str) -> None:
        """Stops a background response that nobody wants any more; its errors are only logged."""
        ...

    def call(self, spec: CallSpec) -> AbstractAsyncContextManager[CallStream]:
        """Starts the request on enter, closes the upstream connection on leaving, however it is left.

        Leaving early (cancel, lost lease) must reach the provider in under 250 ms, and must never drain the stream.
        Entering raises ProviderError when the provider turns the request away before its first byte.
        """
        ...

    async def close(self) -> None:
        """Closes all connections."""
        ...
