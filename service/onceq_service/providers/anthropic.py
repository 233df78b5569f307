"""Anthropic's messages."""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import AbstractAsyncContextManager

import anthropic
import httpx2

from onceq_service.providers._anthropic_request import to_body
from onceq_service.providers._anthropic_wire import AnthropicDecoder
from onceq_service.providers._calls import Calls
from onceq_service.providers._http import new_http_client, no_answer, open_stream, refusal
from onceq_service.providers._shape import answers_by_tool
from onceq_service.providers._sse import SseDecoder
from onceq_service.providers._stream import AnswerStream
from onceq_service.providers.base import CallSpec, ProviderError
from onceq_service.settings import ProviderKind

BASE_URL = "https://api.anthropic.com"


class AnthropicProvider:
    """base.Provider on the `anthropic` SDK. `name` is what errors call it; `trust_env` lets system proxies apply."""

    kind: ProviderKind = "anthropic"
    price_provider: str = "anthropic"
    api_flavor: str = "default"
    can_resume: bool = False

    def __init__(self, name: str, *, api_key: str, base_url: str = BASE_URL, trust_env: bool = True) -> None:
        self.name = name
        self.price_url: str | None = base_url
        http, transport = new_http_client(trust_env=trust_env)
        self._client = anthropic.AsyncAnthropic(
            api_key=api_key, base_url=base_url, max_retries=0, timeout=None, http_client=http
        )
        self._messages = Calls(self._client.post, "/v1/messages", transport)

    def call(self, spec: CallSpec) -> AbstractAsyncContextManager[AnswerStream]:
        """See base.Provider."""
        decoder = SseDecoder(AnthropicDecoder(spec, self.name, by_tool=answers_by_tool(spec.request)))
        return open_stream(spec, self.name, lambda: self._create(spec), decoder, self._translate)

    def _create(self, spec: CallSpec) -> Awaitable[httpx2.Response]:
        return self._messages.open(to_body(spec), spec)

    def _translate(self, spec: CallSpec, exc: Exception) -> ProviderError:
        if isinstance(exc, anthropic.APIStatusError):
            return refusal(spec, self.name, exc.response, (exc.error_code, exc.type), exc.body)
        return no_answer(spec, self.name, exc)

    async def abandon(self, response: str) -> None:
        """See base.Provider: it has no background responses."""

    async def close(self) -> None:
        """Closes all connections."""
        await self._client.close()
