"""An answer as it comes in, whoever sends it: the clocks, the batches, and how an answer may end.

A source reads bytes, a decoder turns them into deltas; neither knows the other. What all three providers have in common
is decided here: text that came before a fault is handed over before the fault is raised, an end without the end marker
is an error however clean it was, and nothing that breaks after the end marker can spoil a whole answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from onceq.wire import FinishReason
from onceq_service.providers import _errors as errors
from onceq_service.providers._limits import rate_limits
from onceq_service.providers.base import CallSpec, Delta, ProviderError, RateLimits, Take


class CutError(Exception):
    """The connection broke."""


class GarbageError(ValueError):
    """The bytes are no answer."""


@dataclass(slots=True)
class Answer:
    """What a decoder has learned beside the text."""

    finish_reason: FinishReason | None = None
    usage: dict[str, object] | None = None
    usage_final: bool = False
    """No later event will change `usage`."""
    price_context: dict[str, str] = field(default_factory=dict[str, str])
    answered: bool = False
    """The end marker was seen: whatever breaks from here on, the answer is whole."""
    finished: bool = False
    """Nothing more will come."""
    response: str | None = None
    """The id of a background response, when it is known."""


class Decoder(Protocol):
    """Turns one provider's bytes into deltas; raises ProviderError for an error event, GarbageError for nonsense."""

    answer: Answer

    def feed(self, chunk: bytes, out: list[Delta]) -> None:
        """Appends what one read adds to the answer."""
        ...

    def end(self, out: list[Delta]) -> None:
        """Appends what the end of the stream left over."""
        ...


Look = Callable[[bytes], float | None]
"""Takes what a read gave: the loop time by which the next has to come; None ends the waiting, with an empty read."""


class Source(Protocol):
    """Where the bytes come from."""

    async def read(self, by: float) -> bytes | None:
        """What came since the last read, None at a clean end; raises CutError, TimeoutError at the loop's time `by`."""
        ...

    def hand_to(self, look: Look) -> None:
        """What comes while somebody waits in `read` may be given to `look` at once."""
        ...

    def unwatch(self) -> None:
        """The answer's words have begun: what follows may come a little later, together with other answers'."""
        ...


class AnswerStream:
    """base.CallStream. `first_by` is the loop time until which the first byte must have come."""

    def __init__(
        self,
        spec: CallSpec,
        provider: str,
        headers: Mapping[str, str],
        source: Source,
        decoder: Decoder,
        first_by: float,
        api_flavor: str | None = None,
    ) -> None:
        self.api_flavor = api_flavor
        self.headers: Mapping[str, str] = {name.lower(): value for name, value in headers.items()}
        self._spec = spec
        self._loop, self._between_s = asyncio.get_running_loop(), spec.clocks.between_bytes_s
        self._provider = provider
        self._source = source
        self._decoder = decoder
        self._answer = decoder.answer
        self._first_by: float | None = first_by
        self._failure: ProviderError | None = None
        self._named = self._answer.response is not None
        self._begun = False
        self._take: Take | None = None
        self._left: list[Delta] = []
        self._wanted = False
        self._defect: Exception | None = None

    @property
    def rate_limits(self) -> RateLimits | None:
        """What the headers tell of the provider's limits."""
        return rate_limits(self.headers)

    @property
    def response(self) -> str | None:
        """The id of a background response."""
        return self._answer.response

    @property
    def finish_reason(self) -> FinishReason | None:
        """None until the provider said why it stopped."""
        return self._answer.finish_reason

    @property
    def answered(self) -> bool:
        """Whether the end marker was seen."""
        return self._answer.answered

    @property
    def usage(self) -> Mapping[str, object] | None:
        """The provider's usage object; None until its final state was reported."""
        return self._answer.usage if self._answer.usage_final else None

    @property
    def early_usage(self) -> Mapping[str, object] | None:
        """What was reported so far, final or not."""
        return self._answer.usage

    @property
    def price_context(self) -> Mapping[str, str]:
        """What the answer says of its own price."""
        return self._answer.price_context

    @property
    def complete(self) -> bool:
        """The last event was read; only the connection's own end may still come."""
        return self._answer.finished and self._failure is None

    def __aiter__(self) -> AnswerStream:
        return self

    async def __anext__(self) -> list[Delta]:
        """The deltas of one read; raises what broke only after the text before it has been handed over."""
        while self._failure is None and not self._answer.finished:
            deltas = self._decode(await self._read())
            left = self.left()
            if self._defect is not None:
                raise self._defect
            if self._newly_named() or self._wanted or left or deltas:
                self._wanted = False
                return left + deltas
        if self._failure is not None and not self._answer.answered:
            raise self._failure
        raise StopAsyncIteration

    def left(self) -> list[Delta]:
        """See base.CallStream."""
        left, self._left = self._left, []
        return left

    def hand_to(self, take: Take) -> None:
        """See base.CallStream."""
        self._take = take
        self._source.hand_to(self._at_once)

    def _at_once(self, chunk: bytes) -> float | None:
        """Hands over what a read gave; None where whoever iterates has to look: an end, a fault, an id, no room."""
        self._first_by = None
        try:
            deltas = self._decode(chunk)
            if self._failure is not None or self._answer.finished or self._named != (self._answer.response is not None):
                self._left = deltas
                return None
            self._wanted = bool(deltas) and self._take is not None and not self._take(deltas)
        except Exception as exc:  # noqa: BLE001 - in the socket's callback; it is raised where the answer is read
            self._defect = exc
            return None
        return None if self._wanted else self._loop.time() + self._between_s

    def _newly_named(self) -> bool:
        """Whether a background response's id has just become known: it must be written down before any text."""
        news = self._answer.response is not None and not self._named
        self._named = self._named or news
        return news

    async def _read(self) -> bytes | None:
        """One read; None at the end, and when something broke (then `_failure` is set)."""
        by = self._first_by or self._loop.time() + self._between_s
        try:
            chunk = await self._source.read(by)
        except TimeoutError:
            return self._fail(errors.TIMED_OUT if self._first_by else errors.STALLED)
        except CutError:
            return self._fail(errors.CUT)
        self._first_by = None
        return chunk

    def _decode(self, chunk: bytes | None) -> list[Delta]:
        """Sets `_failure` when the bytes are no answer, or end without being a whole one."""
        out: list[Delta] = []
        if self._failure is not None:
            return out
        try:
            self._decoder.end(out) if chunk is None else self._decoder.feed(chunk, out)
        except ProviderError as exc:
            self._failure = exc
        except GarbageError:
            self._fail(errors.GARBAGE if chunk is not None else errors.ENDED_EARLY)
        else:
            if chunk is None:
                self._fail(errors.ENDED_EARLY)
        if out and not self._begun:
            self._begun = True
            self._source.unwatch()
        return out

    def _fail(self, meaning: errors.Meaning) -> None:
        self._failure = errors.error(self._spec, self._provider, meaning)
