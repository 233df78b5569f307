"""The road that OpenAI and Anthropic share: the SDK opens the request, we read its raw bytes.

The SDKs build an object per token, which costs most of the CPU of a worker (8,000 tokens/s against more than 40,000),
never notice a stream that ends early but cleanly, and let errors of three libraries through. So they are kept for
authentication, requests (_calls.py), errors and headers, and their stream is read here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final, cast
from urllib.request import getproxies

import httpx2

from onceq_service.providers import _errors as errors
from onceq_service.providers._calls import note_made
from onceq_service.providers._progress import is_unsent, trace_sent
from onceq_service.providers._stream import AnswerStream, CutError, Decoder, Look
from onceq_service.providers._transport import CONNECT_S, StreamTransport, answer_of
from onceq_service.providers.base import CallSpec, ProviderError

KEEP_ALIVE_S: Final = 4.0
"""How long an idle connection is kept. Shorter than uvicorn's 5 s (vLLM): a request on a connection that the server is
just closing breaks in a way that can't be told from a call that was cut, and that may be billed."""
KEPT_IDLE: Final = 32
"""Idle connections that httpx2's own pool keeps. It looks at each of them, with a system call, whenever a call starts
or ends: without a limit 1,000 calls at once cost 5 ms of CPU each, so 2 ms."""
TAIL_S: Final = 0.05
"""After the last event the connection's own end is awaited this long, so that it can be used again; nothing that is
paid for can come."""


OpenCall = Callable[[], Awaitable[httpx2.Response]]
"""Has the SDK make the request; the answer's body is not read yet."""
Translate = Callable[[CallSpec, Exception], ProviderError]
"""An exception of the SDK while it opens the request, in onceq's words."""


def new_http_client(*, trust_env: bool) -> tuple[httpx2.AsyncClient, StreamTransport | None]:
    """For an SDK, and its transport: ours (_transport.py), or None for httpx2's where the system has a proxy for us.

    Neither follows a redirect, which would take the prompt to a host of somebody else's choice (_errors.py, MOVED).
    No read timeout: AnswerStream's clocks measure what the SDK can't, the first byte and the pause between two.
    """
    timeout = httpx2.Timeout(None, connect=CONNECT_S)
    if trust_env and getproxies():
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=KEPT_IDLE, keepalive_expiry=KEEP_ALIVE_S)
        hooks = {"request": [trace_sent]}
        return httpx2.AsyncClient(limits=limits, timeout=timeout, follow_redirects=False, event_hooks=hooks), None
    transport = StreamTransport(keep_s=KEEP_ALIVE_S, trust_env=trust_env)
    client = httpx2.AsyncClient(
        transport=transport, timeout=timeout, follow_redirects=False, trust_env=trust_env,
        event_hooks={"request": [note_made]},
    )  # fmt: skip
    return client, transport


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
    try:
        async with asyncio.timeout_at(first_by):
            response = await open_call()
    except TimeoutError as exc:
        raise errors.error(spec, provider, errors.UNREACHABLE if is_unsent() else errors.TIMED_OUT) from exc
    except Exception as exc:
        raise translate(spec, exc) from exc
    source, headers = _HttpSource(response), response.headers
    del response  # it holds the request, and with it the prompt, while the answer may take an hour
    try:
        stream = AnswerStream(spec, provider, headers, source, decoder, first_by, api_flavor)
        del headers
        yield stream
        if stream.complete:
            await source.read_to_end()
    finally:
        await source.aclose()


class _HttpSource:
    """The body of a response: straight from its connection where it is ours, else by httpx2."""

    __slots__ = ("_answer", "_chunks", "_response")

    def __init__(self, response: httpx2.Response) -> None:
        self._answer = answer_of(response)
        self._response = response if self._answer is None else None
        self._chunks = response.aiter_bytes() if self._answer is None else None

    async def aclose(self) -> None:
        """Ends the connection, unless the answer has been read to its end."""
        if self._answer is not None:
            await self._answer.aclose()
        if self._response is not None:
            await self._response.aclose()

    async def read(self, by: float) -> bytes | None:
        """See _stream.Source."""
        try:
            if self._answer is not None:
                return await self._answer.read(by)
            async with asyncio.timeout_at(by):
                return await anext(cast("AsyncIterator[bytes]", self._chunks), None)
        except (httpx2.HTTPError, httpx2.StreamError) as exc:
            raise CutError from exc

    def hand_to(self, look: Look) -> None:
        """See _stream.Source."""
        if self._answer is not None:
            self._answer.look = look

    def unwatch(self) -> None:
        """See _stream.Source."""
        if self._answer is not None:
            self._answer.unwatch()

    async def read_to_end(self) -> None:
        """Lets the connection be used again, when its end comes soon."""
        if self._answer is not None:
            self._answer.look = None
        by = asyncio.get_running_loop().time() + TAIL_S
        with contextlib.suppress(TimeoutError, CutError):
            while await self.read(by) is not None:
                pass


def refusal(
    spec: CallSpec, provider: str, response: httpx2.Response, names: Iterable[object], body: object
) -> ProviderError:
    """An answer that is none, of which an SDK has read the names and the body."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    named = [str(name) for name in names if name]  # a server that only speaks the format may say anything there
    return errors.from_status(spec, provider, response.status_code, named, _message(body), headers)


def _message(body: object) -> str:
    """The message in an error's body, as either SDK hands it over; empty where there is none."""
    if not isinstance(body, dict):
        return ""
    found = cast(dict[str, Any], body)
    inner = found.get("error")
    message = cast(dict[str, Any], inner).get("message") if isinstance(inner, dict) else found.get("message")
    return message if isinstance(message, str) else ""


def no_answer(spec: CallSpec, provider: str, exc: Exception) -> ProviderError:
    """What httpx2 raised before the answer, or an SDK, which wraps that. Anything else is the request's own fault.

    Before the connection stood nothing was sent. After that it may have been worked on, and so may be billed.
    """
    if isinstance(exc, ProviderError):
        return exc
    why = exc if isinstance(exc, _OF_HTTP) else exc.__cause__ or exc
    if isinstance(why, _UNREACHED):
        meaning = errors.UNREACHABLE
    else:
        written = isinstance(why, _OF_HTTP) and not isinstance(why, httpx2.LocalProtocolError)
        meaning = errors.CUT if written else errors.BAD_REQUEST
    return errors.error(spec, provider, meaning, hint=type(why).__name__)


_OF_HTTP: Final = (httpx2.HTTPError, httpx2.StreamError)
_UNREACHED: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.UnsupportedProtocol)
