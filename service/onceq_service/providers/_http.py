"""The road that OpenAI and Anthropic share: the SDK opens the request, we read its raw bytes.

The SDKs build an object per token, which costs most of the CPU of a worker (8,000 tokens/s against more than 40,000),
never notice a stream that ends early but cleanly, and let errors of three libraries through. So they are kept for
authentication, requests, errors and headers, and their stream is read here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, Protocol

import httpx2

from onceq_service.providers import _errors as errors
from onceq_service.providers._sent import trace_sent
from onceq_service.providers._stream import AnswerStream, CutError, Decoder
from onceq_service.providers.base import CallSpec, ProviderError

CONNECT_S: Final = 10.0
"""Seconds for a TCP and TLS handshake; nothing has been sent until then, so running out of it is free."""
KEEP_ALIVE_S: Final = 4.0
"""How long an idle connection is kept. Shorter than uvicorn's 5 s (vLLM): a request on a connection that the server is
just closing breaks in a way that can't be told from a call that was cut, and that may be billed."""
KEPT_IDLE: Final = 32
"""Idle connections kept for the next calls: what a worker runs at once by default. The pool looks at each of them, with
a system call, whenever a call starts or ends: without a limit 1,000 calls at once cost 5 ms of CPU each, so 2 ms."""
TAIL_S: Final = 0.05
"""After the last event the connection's own end is awaited this long, so that it can be used again; nothing that is
paid for can come."""


class OpenResponse(Protocol):
    """What both SDKs' streaming responses are to us."""

    @property
    def http_response(self) -> httpx2.Response:
        """The untouched response; closed by the SDK's context manager."""
        ...


OpenCall = Callable[[], AbstractAsyncContextManager[OpenResponse]]
Translate = Callable[[CallSpec, Exception], ProviderError]
"""An exception of the SDK while it opens the request, in onceq's words."""


def new_http_client(*, trust_env: bool) -> httpx2.AsyncClient:
    """A pool without a limit: how many calls run at once is decided by the worker and the lanes, never here.

    No read timeout: AnswerStream's clocks measure what the SDK can't, the first byte and the pause between two.
    """
    return httpx2.AsyncClient(
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=KEPT_IDLE, keepalive_expiry=KEEP_ALIVE_S),
        timeout=httpx2.Timeout(None, connect=CONNECT_S),
        follow_redirects=True,
        trust_env=trust_env,
        event_hooks={"request": [trace_sent]},
    )


@asynccontextmanager
async def open_stream(
    spec: CallSpec,
    provider: str,
    open_call: OpenCall,
    decoder: Decoder,
    translate: Translate,
    api_flavor: str | None = None,
) -> AsyncGenerator[AnswerStream]:
    """Opens a call with `open_call` and closes its connection on leaving, however it is left."""
    first_by = asyncio.get_running_loop().time() + spec.clocks.first_byte_s
    async with contextlib.AsyncExitStack() as stack:
        try:
            async with asyncio.timeout_at(first_by):
                opened = await stack.enter_async_context(open_call())
        except TimeoutError as exc:
            raise errors.error(spec, provider, errors.TIMED_OUT) from exc
        except Exception as exc:
            raise translate(spec, exc) from exc
        source = await stack.enter_async_context(_HttpSource(opened.http_response))
        stream = AnswerStream(spec, provider, opened.http_response.headers, source, decoder, first_by, api_flavor)
        yield stream
        if stream.complete:
            await source.read_to_end()


class _HttpSource:
    """The body of a response. Leaving it ends the reading; the SDK's context manager closes the connection."""

    def __init__(self, response: httpx2.Response) -> None:
        self._chunks: AsyncGenerator[bytes] = response.aiter_bytes()

    async def __aenter__(self) -> _HttpSource:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._chunks.aclose()

    async def read(self) -> bytes | None:
        """See _stream.Source."""
        try:
            return await anext(self._chunks, None)
        except (httpx2.HTTPError, httpx2.StreamError) as exc:
            raise CutError from exc

    async def read_to_end(self) -> None:
        """Lets the connection go back to the pool, when its end comes soon."""
        with contextlib.suppress(TimeoutError, CutError):
            async with asyncio.timeout(TAIL_S):
                while await self.read() is not None:
                    pass


def unanswered(exc: BaseException | None) -> errors.Meaning | None:
    """What an httpx2 exception before the answer means; None when it is not one.

    Before the connection stood nothing was sent. After that it may have been worked on, and so may be billed.
    """
    if isinstance(exc, (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.UnsupportedProtocol)):
        return errors.UNREACHABLE
    return errors.CUT if isinstance(exc, (httpx2.HTTPError, httpx2.StreamError)) else None
