"""OpenAI's background responses: begun here, taken up again by another worker, given up.

OpenAI streams a background response again for about five minutes after it was made; later it can still be polled.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Final
from urllib.parse import quote

import httpx2
import msgspec
import openai

from onceq.wire import FinishReason
from onceq_service.providers import _errors as errors
from onceq_service.providers._calls import Calls
from onceq_service.providers._http import OpenCall, Translate, open_stream
from onceq_service.providers._responses_request import to_body
from onceq_service.providers._responses_wire import Response, ResponsesDecoder, tail
from onceq_service.providers._sse import SseDecoder
from onceq_service.providers._stream import AnswerStream
from onceq_service.providers._transport import StreamTransport
from onceq_service.providers.base import CallSpec, CallStream, Delta, ProviderError, RateLimits, Resume, Take

POLL_S: Final = 1.0
ABANDON_S: Final = 5.0
"""How long a job that is being cancelled waits for the host to hear of it."""
ABANDON_AGAIN: Final = 4
"""How often it is told once more within that time: a response that goes on unheard of costs until its end."""
FLAVOR: Final = "responses"
_GOING_ON: Final = frozenset({"queued", "in_progress"})


class BackgroundResponses:
    """The Responses API of one host. `provider` is what errors call it."""

    def __init__(
        self, client: openai.AsyncOpenAI, transport: StreamTransport | None, provider: str, translate: Translate
    ) -> None:
        self._client, self._provider, self._translate = client, provider, translate
        self._responses = Calls(client.post, "/responses", transport)

    def call(self, spec: CallSpec) -> AbstractAsyncContextManager[CallStream]:
        """Begins a response, or goes on with the one that `spec.resume` names."""
        if spec.resume is not None:
            return self._resumed(spec, spec.resume)
        return self._stream(spec, lambda: self._create(spec))

    async def abandon(self, response: str) -> None:
        """Stops generating; a response that has ended stays as it is. Raises openai.APIError and TimeoutError.

        The SDK's own retries, which no call may have (G3): a cancel is never billed.
        """
        client = self._client.with_options(max_retries=ABANDON_AGAIN)
        async with asyncio.timeout(ABANDON_S):
            await client.responses.cancel(response)

    def _stream(self, spec: CallSpec, opening: OpenCall) -> AbstractAsyncContextManager[AnswerStream]:
        decoder = SseDecoder(ResponsesDecoder(spec, self._provider))
        return open_stream(spec, self._provider, opening, decoder, self._translate, FLAVOR)

    def _create(self, spec: CallSpec) -> Awaitable[httpx2.Response]:
        return self._responses.open(to_body(spec), spec)

    def _retrieve(self, resume: Resume) -> Awaitable[httpx2.Response]:
        after = {"starting_after": resume.at} if resume.at >= 0 else {}
        get: Any = self._client.get
        return get(
            f"/responses/{quote(resume.response, safe='')}", cast_to=httpx2.Response, stream=True,
            options={"params": {"stream": True, **after}},
        )  # fmt: skip

    @asynccontextmanager
    async def _resumed(self, spec: CallSpec, resume: Resume) -> AsyncGenerator[CallStream]:
        """Streams it from where the readers are; polls it where the host does not stream it any more."""
        async with AsyncExitStack() as stack:
            stream: CallStream
            try:
                stream = await stack.enter_async_context(self._stream(spec, lambda: self._retrieve(resume)))
            except ProviderError as exc:
                if exc.cause != "rejected":
                    raise
                stream = PolledAnswer(self._client, spec, resume, self._provider, self._translate)
                await stream.begin()
            yield stream


class PolledAnswer:
    """base.CallStream for a response that can't be streamed any more: its whole rest at once, when it has ended."""

    api_flavor: str | None = FLAVOR
    headers: Mapping[str, str]
    rate_limits: RateLimits | None = None

    def __init__(
        self, client: openai.AsyncOpenAI, spec: CallSpec, resume: Resume, provider: str, translate: Translate
    ) -> None:
        self._client, self._spec, self._resume, self._provider = client, spec, resume, provider
        self._translate = translate
        self._decoder = ResponsesDecoder(spec, provider)
        self._seen: Response | None = None
        self.headers = {}

    @property
    def response(self) -> str | None:
        """Its id."""
        return self._resume.response

    @property
    def finish_reason(self) -> FinishReason | None:
        """None until it has ended."""
        return self._decoder.answer.finish_reason

    @property
    def answered(self) -> bool:
        """Whether it has ended."""
        return self._decoder.answer.answered

    @property
    def usage(self) -> Mapping[str, object] | None:
        """None until it has ended."""
        return self._decoder.answer.usage

    @property
    def early_usage(self) -> Mapping[str, object] | None:
        """The same: nothing is told before."""
        return self.usage

    @property
    def price_context(self) -> Mapping[str, str]:
        """What the answer says of its own price."""
        return self._decoder.answer.price_context

    async def begin(self) -> None:
        """The first look; raises ProviderError `resume_refused` when there is nothing to go on with."""
        self._seen = await self._poll()

    def left(self) -> list[Delta]:
        """Nothing."""
        return []

    def hand_to(self, take: Take) -> None:
        """It comes as one."""

    def __aiter__(self) -> PolledAnswer:
        return self

    async def __anext__(self) -> list[Delta]:
        """The rest of the answer, once."""
        if self._decoder.answer.finished:
            raise StopAsyncIteration
        while self._seen is None or self._seen.status in _GOING_ON:
            await asyncio.sleep(POLL_S)
            self._seen = await self._poll()
        self._decoder.take(self._seen)
        if not self._decoder.answer.finished:
            raise errors.error(self._spec, self._provider, errors.GARBAGE, hint=f"status {self._seen.status}")
        return tail(self._seen, self._resume.output)

    async def _poll(self) -> Response:
        try:
            found = await self._client.responses.with_raw_response.retrieve(self._resume.response)
            return msgspec.json.decode(found.content, type=Response)
        except openai.APIStatusError as exc:
            if exc.status_code in (400, 404, 410):
                raise errors.error(self._spec, self._provider, errors.RESUME_REFUSED, may_be_billed=True) from exc
            raise self._translate(self._spec, exc) from exc
        except msgspec.MsgspecError as exc:
            raise errors.error(self._spec, self._provider, errors.GARBAGE) from exc
        except openai.APIError as exc:
            raise self._translate(self._spec, exc) from exc
