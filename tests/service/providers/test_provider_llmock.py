"""An emulator that we did not write, for the two providers that it knows: the same answers, the same faults."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator

import pytest
from llmock.pytest_plugin import LLMock

from onceq_service import pricing
from onceq_service.providers import Clocks, Provider, open_providers
from onceq_service.settings import ProviderConfig, ProviderKind
from tests.service.providers.kit import PATIENT, hear, refusal, spec_for

SOON_STALLED = Clocks(first_byte_s=10, between_bytes_s=1)
TOOL = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}


@pytest.fixture(params=["openai", "anthropic"])
def kind(request: pytest.FixtureRequest) -> ProviderKind:
    found: ProviderKind = request.param
    return found


@pytest.fixture
async def provider(llmock: LLMock, kind: ProviderKind) -> AsyncGenerator[Provider]:
    config = ProviderConfig(kind=kind, base_url=llmock.base_url(kind), simulated=True)
    opened = open_providers({kind: config}, {})[kind]
    yield opened
    await opened.close()


async def test_text_and_usage_arrive(llmock: LLMock, provider: Provider, kind: ProviderKind) -> None:
    llmock.reply("The quick brown fox, naïve and 🦊.")
    spec = spec_for(kind)
    heard = await hear(provider, spec)
    assert (heard.error, heard.said(), heard.finish_reason) == (None, "The quick brown fox, naïve and 🦊.", "stop")
    priced = pricing.price(provider, spec.model_id, heard.usage)
    assert priced is not None
    assert priced.tokens.output > 0
    assert priced.nano_usd is not None


async def test_a_tool_call_arrives(llmock: LLMock, provider: Provider, kind: ProviderKind) -> None:
    llmock.call_tool("weather", {"city": "Oslo"})
    heard = await hear(provider, spec_for(kind, tools=[TOOL]))
    assert json.loads(heard.said("tool_call")) == {"city": "Oslo"}
    assert heard.finish_reason == "tool_calls"


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("disconnect", "stream_broken"),
        ("truncate", "stream_ended_early"),
        ("corrupt", "stream_garbage"),
        ("stall", "provider_stalled"),
    ],
)
async def test_a_broken_stream_is_never_taken_for_an_answer(
    llmock: LLMock, provider: Provider, kind: ProviderKind, fault: str, code: str
) -> None:
    clocks = SOON_STALLED if fault == "stall" else PATIENT
    getattr(llmock, fault)(after_chunks=4, times=None)
    heard = await hear(provider, spec_for(kind, "Tell a long story.", clocks=clocks))
    assert (heard.broke().code, heard.broke().cause) == (code, "broken")
    assert len(llmock.requests) == 1


@pytest.mark.parametrize(
    ("status", "code"),
    [(429, "provider_rate_limited"), (500, "provider_error"), (503, "provider_overloaded"), (401, "provider_auth")],
)
async def test_a_refusal_is_sent_once_and_its_retry_after_read(
    llmock: LLMock, provider: Provider, kind: ProviderKind, status: int, code: str
) -> None:
    llmock.fail(status, retry_after=3, times=None)
    error = await refusal(provider, spec_for(kind))
    assert (error.code, error.status, error.retry_after_s) == (code, status, 3)
    assert len(llmock.requests) == 1, "a provider's SDK has tried again by itself"
    assert llmock.last_request.sdk_retry_count in (0, None)
