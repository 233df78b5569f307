"""How a provider may misbehave, and what the worker is told: the same words for all three."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass

import pytest

from onceq_service.providers import Clocks, Provider, open_providers
from onceq_service.providers.base import Cause, ProviderError
from onceq_service.settings import ProviderConfig, ProviderKind
from tests.service.providers.kit import PATIENT, Clock, Meter, hear, refusal, sim, spec_for
from tests.waiting import until

SOON_STALLED = Clocks(first_byte_s=10, between_bytes_s=0.4)


@dataclass(frozen=True)
class Wanted:
    code: str
    cause: Cause
    may_be_billed: bool


REJECTED: dict[int, str] = {
    400: "provider_bad_request",
    401: "provider_auth",
    403: "provider_forbidden",
    404: "model_not_found",
    413: "provider_too_large",
    422: "provider_bad_request",
}
REFUSED: dict[int, str] = {
    429: "provider_rate_limited",
    500: "provider_error",
    502: "provider_error",
    503: "provider_overloaded",
    529: "provider_overloaded",
}
STATUSES = {status: Wanted(code, "rejected", False) for status, code in REJECTED.items()} | {
    status: Wanted(code, "refused", False) for status, code in REFUSED.items()
}
MID_STREAM = {
    "cut": Wanted("stream_broken", "broken", True),
    "end": Wanted("stream_ended_early", "broken", True),
    "stall": Wanted("provider_stalled", "broken", True),
    "garbage": Wanted("stream_garbage", "broken", True),
}
SILENT = {"hang": Wanted("provider_timeout", "timeout", True), "half": Wanted("provider_timeout", "timeout", True)}


@pytest.mark.parametrize("status", sorted(STATUSES))
async def test_a_status_before_the_first_byte_has_its_code_and_cause_and_is_sent_once(
    provider: Provider, kind: ProviderKind, meter: Meter, status: int
) -> None:
    spec = spec_for(kind, sim(fault=status))
    error = await refusal(provider, spec)
    assert Wanted(error.code, error.cause, error.may_be_billed) == STATUSES[status]
    assert error.status == status
    assert len(await meter.rows(spec)) == 1, "a provider's SDK has tried again by itself"


async def test_retry_after_is_handed_on(provider: Provider, kind: ProviderKind) -> None:
    error = await refusal(provider, spec_for(kind, sim(fault=429, retry_after=7)))
    assert error.retry_after_s == 7


async def test_a_used_up_quota_is_said_to_be_one(provider: Provider, kind: ProviderKind) -> None:
    error = await refusal(provider, spec_for(kind, sim(fault="quota")))
    assert (error.code, error.cause) == ("provider_rate_limited", "refused")
    assert "quota" in error.message


@pytest.mark.parametrize("fault", sorted(MID_STREAM))
async def test_a_stream_that_breaks_hands_over_its_text_and_then_says_how(
    provider: Provider, kind: ProviderKind, meter: Meter, fault: str
) -> None:
    clocks = SOON_STALLED if fault == "stall" else PATIENT
    spec = spec_for(kind, sim(tokens=30, fault=fault, after=12), clocks=clocks)
    heard = await hear(provider, spec)
    error = heard.broke()
    assert Wanted(error.code, error.cause, error.may_be_billed) == MID_STREAM[fault]
    assert len(heard.deltas) == 12
    assert heard.usage is None, "usage that is not final was called final"
    row = await meter.row(spec)
    assert row["text"].startswith(heard.said())
    assert row["billed"]


@pytest.mark.parametrize("fault", sorted(SILENT))
async def test_an_answer_that_never_begins_is_a_timeout(
    provider: Provider, kind: ProviderKind, meter: Meter, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, clocks = Clock(monkeypatch), Clocks(first_byte_s=600, between_bytes_s=10)
    spec = spec_for(kind, sim(fault=fault), clocks=clocks)
    hearing = asyncio.create_task(hear(provider, spec))
    await until(lambda: meter.runs(spec), "the provider to have the request")
    await clock.put_on(500)
    assert not hearing.done()
    await clock.put_on(100)
    async with asyncio.timeout(20):
        heard = await hearing
    error = heard.broke()
    assert Wanted(error.code, error.cause, error.may_be_billed) == SILENT[fault]
    assert not heard.deltas
    assert len(await meter.rows(spec)) == 1


async def test_a_slow_first_token_is_no_stall_while_the_clock_for_it_runs(
    provider: Provider, kind: ProviderKind
) -> None:
    clocks = Clocks(first_byte_s=10, between_bytes_s=0.2)
    heard = await hear(provider, spec_for(kind, sim(tokens=3, ttft_ms=600), clocks=clocks))
    assert heard.error is None
    assert len(heard.deltas) == 3


@pytest.mark.parametrize(("fault", "code"), [("error", "provider_error"), ("overload", "provider_overloaded")])
async def test_an_error_event_inside_the_stream_means_the_same_from_all_and_may_be_billed(
    provider: Provider, kind: ProviderKind, fault: str, code: str
) -> None:
    heard = await hear(provider, spec_for(kind, sim(tokens=30, fault=fault, after=4)))
    error = heard.broke()
    assert (error.code, error.cause, error.may_be_billed) == (code, "broken", True)
    assert len(heard.deltas) == 4


async def test_an_error_event_before_any_text_may_be_billed_too(provider: Provider, kind: ProviderKind) -> None:
    """A refusal is free only before the first byte (G3): inside a 200 stream the provider had begun."""
    heard = await hear(provider, spec_for(kind, sim(tokens=30, fault="error", after=0)))
    assert (heard.broke().cause, heard.broke().may_be_billed) == ("broken", True)
    assert not heard.deltas


async def test_a_connection_that_closes_before_the_answer_may_be_billed(provider: Provider, kind: ProviderKind) -> None:
    error = await refusal(provider, spec_for(kind, sim(fault="drop")))
    assert (error.code, error.cause, error.may_be_billed) == ("stream_broken", "broken", True)


async def refusal_of_host(kind: ProviderKind, host: str, port: int) -> ProviderError:
    config = ProviderConfig(kind=kind, base_url=f"http://{host}:{port}", simulated=True)
    provider = open_providers({kind: config}, {})[kind]
    try:
        return await refusal(provider, spec_for(kind))
    finally:
        await provider.close()


async def test_a_host_that_does_not_listen_is_free(kind: ProviderKind) -> None:
    with socket.socket() as taken:  # nobody else gets the port, and nobody listens
        taken.bind(("127.0.0.1", 0))
        error = await refusal_of_host(kind, "127.0.0.1", taken.getsockname()[1])
    assert (error.code, error.cause, error.may_be_billed) == ("provider_unreachable", "refused", False)


async def test_a_host_that_has_no_address_is_free(kind: ProviderKind, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer of the name service is given here: a real one may take as long as the call's own clocks."""
    asked: list[object] = []

    def unknown(host: object, *_: object, **__: object) -> None:
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    error = await refusal_of_host(kind, "provider.invalid", 80)
    assert (error.code, error.cause, error.may_be_billed) == ("provider_unreachable", "refused", False)
    assert asked == ["provider.invalid"]


async def test_usage_that_came_first_is_kept_when_the_stream_breaks(provider: Provider, kind: ProviderKind) -> None:
    """Anthropic tells the input side first; what it told is kept, and is not taken for the whole."""
    heard = await hear(provider, spec_for(kind, sim(tokens=30, fault="cut", after=9)))
    assert heard.usage is None
    assert (heard.early_usage is not None) == (kind == "anthropic")


async def test_a_url_image_is_refused_where_it_can_not_be_taken_before_anything_is_sent(
    provider: Provider, kind: ProviderKind, meter: Meter
) -> None:
    content = [{"type": "image", "url": "https://example.org/cat.png"}, {"type": "text", "text": "Who is this?"}]
    spec = spec_for(kind, messages=[{"role": "user", "content": content}])
    heard = await hear(provider, spec)
    if kind == "bedrock":
        assert (heard.broke().code, heard.broke().cause) == ("unsupported_input", "rejected")
        assert await meter.rows(spec) == []
    else:
        assert heard.error is None
