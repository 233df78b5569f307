"""Background responses through openai's own SDK: taken up again behind any event, polled, refused, given up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace

import msgspec
import pytest

from onceq.wire import Output
from onceq_service.providers import CallSpec, Provider, _responses, open_providers
from onceq_service.providers.base import Delta, Resume
from onceq_service.settings import DEFAULT_PROVIDERS, on_simulator
from onceq_service.simulator import SimulatorServer
from tests.service.providers.kit import Heard, Meter, hear, refusal, sim, spec_for
from tests.service.providers.raw_server import answer, chunked, raw_provider, sse
from tests.waiting import until

JSON = "content-type: application/json\r\n"


@pytest.fixture
async def openai(simulator: SimulatorServer) -> AsyncGenerator[Provider]:
    config = on_simulator(DEFAULT_PROVIDERS["openai"], simulator.url)
    opened = open_providers({"openai": config}, {})["openai"]
    yield opened
    await opened.close()


def background(**settings: object) -> CallSpec:
    return replace(spec_for("openai", sim(**settings)), background=True)


async def begun(openai: Provider, spec: CallSpec, pieces: int) -> tuple[str, list[Delta]]:
    """The response's id, and its first deltas; the connection is left then."""
    had: list[Delta] = []
    async with openai.call(spec) as stream:
        async for batch in stream:
            had += batch
            if len(had) >= pieces:
                break
        assert stream.response is not None
        return stream.response, had[:pieces]


def at(response: str, had: list[Delta]) -> Resume:
    text = "".join(delta.text for delta in had if delta.kind == "text")
    reasoning = "".join(delta.text for delta in had if delta.kind == "reasoning")
    return Resume(response, had[-1].at if had else -1, Output(text=text, reasoning=reasoning))


async def resumed(openai: Provider, spec: CallSpec, response: str, had: list[Delta]) -> Heard:
    return await hear(openai, replace(spec, resume=at(response, had)))


async def test_the_name_of_a_response_is_known_before_its_first_text(openai: Provider) -> None:
    async with openai.call(background(tokens=3, ttft_ms=600_000)) as stream:
        first = await anext(aiter(stream))
        assert first == []
        assert stream.response is not None


async def test_a_response_goes_on_behind_each_of_its_events(openai: Provider, meter: Meter) -> None:
    spec = background(tokens=12, reasoning=4)
    spec = replace(spec, request=spec.request.model_copy(update={"params": {"reasoning": {"effort": "low"}}}))
    async with openai.call(spec) as stream:
        whole = [delta async for batch in stream for delta in batch]
        response, usage = stream.response, stream.usage
    assert response is not None
    assert len({delta.at for delta in whole}) == len(whole) == 16
    for cut in range(len(whole) + 1):
        heard = await resumed(openai, spec, response, whole[:cut])
        assert heard.error is None
        assert heard.deltas == whole[cut:]
        assert (heard.finish_reason, heard.usage) == ("stop", usage)
    assert (await meter.row(spec))["status"] == "completed"


async def test_a_response_that_is_still_being_written_is_followed_to_its_end(openai: Provider, meter: Meter) -> None:
    spec = background(tokens=60, tps=100)
    response, had = await begun(openai, spec, 5)
    heard = await resumed(openai, spec, response, had)
    row = await meter.row(spec)
    assert "".join(delta.text for delta in had) + heard.said() == row["text"]
    assert (heard.finish_reason, row["status"]) == ("stop", "completed")


async def test_what_is_not_streamed_any_more_is_polled_and_only_the_rest_is_told(
    openai: Provider, meter: Meter
) -> None:
    for pieces in (1, 5, 20):
        spec = background(tokens=20, tps=200, resumable=0)
        response, had = await begun(openai, spec, pieces)
        heard = await resumed(openai, spec, response, had)
        row = await meter.row(spec)
        assert "".join(delta.text for delta in had) + heard.said() == row["text"]
        assert (heard.finish_reason, heard.error) == ("stop", None)


async def test_a_response_that_is_gone_is_said_to_be_gone_and_may_be_billed(openai: Provider) -> None:
    error = await refusal(openai, replace(background(), resume=Resume("resp_unknown", 3, Output(text="half"))))
    assert (error.code, error.cause, error.may_be_billed) == ("resume_refused", "rejected", True)


async def test_a_response_that_was_stopped_elsewhere_is_an_error(openai: Provider, meter: Meter) -> None:
    for resumable in (300, 0):
        spec = background(tokens=2000, tps=50, resumable=resumable)
        response, had = await begun(openai, spec, 2)
        await openai.abandon(response)
        heard = await resumed(openai, spec, response, had)
        assert heard.broke().cause == "broken"
        assert heard.broke().may_be_billed
        assert (await meter.row(spec))["status"] == "cancelled"


async def test_leaving_a_background_response_does_not_stop_it_but_abandoning_does(
    openai: Provider, meter: Meter
) -> None:
    spec = background(tokens=2000, tps=50)
    response, _ = await begun(openai, spec, 2)
    before = (await meter.row(spec))["output_tokens"]

    async def written() -> bool:
        return (await meter.row(spec))["output_tokens"] > before

    await until(written, "the response to grow while nobody reads it")
    await openai.abandon(response)
    assert (await meter.row(spec))["status"] == "cancelled"


async def test_abandoning_what_is_gone_is_told_once_and_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    told: list[bytes] = []

    def host(head: bytes) -> bytes:
        told.append(head.split(b"\r\n")[0])
        return answer(b'{"error": {"message": "not found", "code": "not_found"}}', status=404, headers=JSON)

    async with raw_provider("openai", host) as provider:
        await provider.abandon("resp_unknown")
    assert told == [b"POST /responses/resp_unknown/cancel HTTP/1.1"]
    assert "openai could not be told to stop response resp_unknown: NotFoundError" in caplog.text


async def test_a_host_that_is_away_for_a_moment_is_told_again_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses between are noted, not made: they have to fit into the time that a job may be held up."""
    given_s, pauses_s = _responses.ABANDON_S, list[float]()

    async def pause(seconds: float) -> None:
        pauses_s.append(seconds)

    monkeypatch.setattr("anyio.sleep", pause)  # the SDK's
    monkeypatch.setattr(_responses, "ABANDON_S", 60)
    away = [
        answer(b"{}", status=503, headers=JSON),
        b"",
        answer(b"{}", status=429, headers=JSON + "retry-after: 0\r\n"),
    ]
    stopped = answer(msgspec.json.encode({"id": "resp_1", "status": "cancelled", "output": []}), headers=JSON)
    told: list[bytes] = []

    def host(head: bytes) -> bytes:
        told.append(head.split(b"\r\n")[0])
        return away.pop(0) if away else stopped

    async with raw_provider("openai", host) as provider:
        await provider.abandon("resp_1")
    assert (len(told), set(told)) == (4, {b"POST /responses/resp_1/cancel HTTP/1.1"})
    assert len(pauses_s) == 3
    assert 0 < sum(pauses_s) < given_s


async def test_a_host_that_stays_away_does_not_hold_the_job_up_for_ever(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_responses, "ABANDON_S", 0.3)
    gone = answer(b"{}", status=503, headers=JSON + "retry-after: 30\r\n")
    async with raw_provider("openai", lambda _: gone) as provider, asyncio.timeout(20):
        await provider.abandon("resp_1")
    assert "could not be told to stop response resp_1: TimeoutError" in caplog.text


@pytest.mark.parametrize("status", ["brand_new", None])
async def test_a_polled_status_that_nobody_knows_is_garbage_and_not_an_endless_answer(status: str | None) -> None:
    body = msgspec.json.encode({"id": "resp_1", "status": status, "output": []})
    polled, refused = answer(body, headers=JSON), answer(b"{}", status=400, headers=JSON)
    async with raw_provider("openai", lambda head: refused if b"stream=true" in head else polled) as provider:
        spec = replace(background(), resume=Resume("resp_1", 1, Output()))
        heard = await hear(provider, spec)
    assert (heard.broke().code, heard.broke().cause) == ("stream_garbage", "broken")


async def test_a_host_that_streams_from_the_beginning_again_tells_nothing_twice() -> None:
    """openai's own helper for resuming sends no cursor and drops what it knows: such hosts exist."""
    deltas = [{"type": "response.output_text.delta", "sequence_number": n, "delta": f"{n} "} for n in range(1, 6)]
    end = {"type": "response.completed", "sequence_number": 6, "response": {"id": "resp_1", "status": "completed"}}
    heads: list[bytes] = []

    def reply(head: bytes) -> bytes:
        heads.append(head)
        return chunked(sse(*deltas, end), end=True)

    async with raw_provider("openai", reply) as provider:
        heard = await hear(provider, replace(background(), resume=Resume("resp_1", 3, Output(text="1 2 3 "))))
    assert (heard.said(), heard.finish_reason) == ("4 5 ", "stop")
    assert b"starting_after=3" in heads[0]
