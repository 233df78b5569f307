"""OpenAI, and every server that speaks its chat completions format."""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from contextlib import AbstractAsyncContextManager

import httpx2
import openai

from onceq_service.providers._calls import Calls
from onceq_service.providers._http import new_http_client, no_answer, open_stream, refusal
from onceq_service.providers._openai_request import to_body
from onceq_service.providers._openai_wire import OpenAIDecoder
from onceq_service.providers._responses import BackgroundResponses
from onceq_service.providers._sse import SseDecoder
from onceq_service.providers.base import CallSpec, CallStream, ProviderError
from onceq_service.settings import ProviderKind

log = logging.getLogger("onceq.providers")

BASE_URL = "https://api.openai.com/v1"


class OpenAIProvider:
    """base.Provider on the `openai` SDK. `name` is what errors call it; `trust_env` lets system proxies apply."""

    kind: ProviderKind = "openai"
    price_provider: str = "openai"
    api_flavor: str = "chat"

    def __init__(
        self, name: str, *, api_key: str, base_url: str = BASE_URL, trust_env: bool = True, can_resume: bool = False
    ) -> None:
        self.name = name
        self.base_url = base_url
        self.price_url: str | None = base_url
        http, transport = new_http_client(trust_env=trust_env)
        self._client = openai.AsyncOpenAI(
            api_key=api_key, base_url=base_url, max_retries=0, timeout=None, http_client=http
        )
        self._chat = Calls(self._client.post, "/chat/completions", transport)
        self.can_resume = can_resume
        self._background = BackgroundResponses(self._client, transport, name, self._translate)

    def call(self, spec: CallSpec) -> AbstractAsyncContextManager[CallStream]:
        """See base.Provider; a background call goes through the Responses API, any other through chat completions."""
        if spec.background:
            return self._background.call(spec)
        decoder = SseDecoder(OpenAIDecoder(spec, self.name))
        return open_stream(spec, self.name, lambda: self._create(spec), decoder, self._translate)

    async def abandon(self, response: str) -> None:
        """See base.Provider."""
        try:
            await self._background.abandon(response)
        except (openai.APIError, TimeoutError) as exc:
            log.warning("%s could not be told to stop response %s: %s", self.name, response, type(exc).__name__)

    def _create(self, spec: CallSpec) -> Awaitable[httpx2.Response]:
        return self._chat.open(to_body(spec, self.base_url), spec)

    def _translate(self, spec: CallSpec, exc: Exception) -> ProviderError:
        if isinstance(exc, openai.APIStatusError):
            return refusal(spec, self.name, exc.response, (exc.code, exc.type), exc.body)
        return no_answer(spec, self.name, exc)

    async def close(self) -> None:
        """Closes all connections."""
        await self._client.close()
