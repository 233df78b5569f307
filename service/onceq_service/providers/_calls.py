"""Calls to one path of a host: an SDK makes the requests, and what it writes before their bodies is used again.

Why: to make a request costs an SDK 0.5 ms of CPU in a burst and 1 ms where caches are cold, two fifths of what starting
a job takes of its worker (benchmarks/README.md), and all but the call's id and the length is the same each time. So it
makes two; where these are alike, theirs goes before the bodies of a minute, and then one is made anew. What is no plain
answer (an error, a redirect) is given to the SDK as if it had just asked, so what that means stays the SDK's to say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

import httpx2
import msgspec

from onceq_service.providers._connection import Origin
from onceq_service.providers._transport import ANSWERED, StreamTransport, head_of, origin_of
from onceq_service.providers.base import CallSpec

RENEW_S: Final = 60.0
"""A head that is older is made anew."""
CALL_ID: Final = "X-Client-Request-Id"
_OWN: Final = frozenset({CALL_ID.lower(), "content-length"})
"""Headers that are a request's own."""
_ENCODE: Final = msgspec.json.Encoder().encode


class Head(NamedTuple):
    """Where a request goes, and its head without what is its own."""

    origin: Origin
    lines: bytes

    def before(self, body: bytes, call_id: str) -> bytes:
        """The whole request."""
        own = f"{CALL_ID}: {call_id}\r\nContent-Length: {len(body)}\r\n\r\n"
        return self.lines + own.encode("ascii") + body


class Calls:
    """To `path`, by the method `post` of an SDK's client.

    `transport` is the one of new_http_client; without it, which is where a proxy is, the SDK makes each request.
    """

    def __init__(self, post: Any, path: str, transport: StreamTransport | None) -> None:
        self._post, self._path, self._transport = post, path, transport
        self._made: Head | None = None
        self._alike_until = 0.0

    async def open(self, body: Mapping[str, Any], spec: CallSpec) -> httpx2.Response:
        """The answer, its body not read; raises the SDK's errors and httpx2's."""
        head = self._known()
        if head is None or self._transport is None:
            return await self._by_sdk(body, spec)
        answer = await self._transport.send(head.origin, head.before(_ENCODE(body), spec.client_request_id))
        return answer if answer.is_success else await self._by_sdk(body, spec, answer)

    async def _by_sdk(
        self, body: Mapping[str, Any], spec: CallSpec, answer: httpx2.Response | None = None
    ) -> httpx2.Response:
        """With the body as it is and the answer not read, which may be there already.

        An SDK's `create` methods would walk through a body that is JSON already: 0.7 ms of CPU a call, this is half.
        """
        _MAKING.set(self)
        ANSWERED.set(answer)
        named = {CALL_ID: spec.client_request_id}
        try:
            return await self._post(
                self._path, body=body, cast_to=httpx2.Response, stream=True, options={"headers": named}
            )
        finally:
            _MAKING.set(None)
            if answer is not None and ANSWERED.get() is answer:  # the SDK has not come so far as to see it
                ANSWERED.set(None)
                await answer.aclose()

    def note(self, request: httpx2.Request) -> None:
        """A request that the SDK has made."""
        before, self._made = self._made, Head(origin_of(request.url), head_of(request, _OWN))
        self._alike_until = asyncio.get_running_loop().time() + RENEW_S if before == self._made else 0.0

    def _known(self) -> Head | None:
        return self._made if asyncio.get_running_loop().time() < self._alike_until else None


_MAKING: Final[ContextVar[Calls | None]] = ContextVar("onceq_making", default=None)
"""Whose request the SDK makes in this task."""


async def note_made(request: httpx2.Request) -> None:
    """An event hook of the client."""
    if (calls := _MAKING.get()) is not None:
        _MAKING.set(None)
        calls.note(request)
