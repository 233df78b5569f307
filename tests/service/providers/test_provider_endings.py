"""The end marker decides: without it no end is a good one, after it nothing can spoil the answer."""

from __future__ import annotations

import asyncio

import pytest

from onceq_service.providers import Clocks, bedrock
from onceq_service.settings import ProviderKind
from tests.service.providers.kit import hear, refusal, spec_for
from tests.service.providers.raw_server import After, answer, binary, chunked, raw_provider, sse

SHORT = Clocks(first_byte_s=10, between_bytes_s=1)
OPENAI_TEXT: dict[str, object] = {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}]}
OPENAI_STOP: dict[str, object] = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
OPENAI_USAGE: dict[str, object] = {
    "choices": [],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}
ANTHROPIC_TEXT = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}}
ANTHROPIC_STOP = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}}
BEDROCK_TEXT = ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hi"}})
BEDROCK_STOP = ("messageStop", {"stopReason": "end_turn"})

MARKED = {"openai": sse(OPENAI_TEXT, OPENAI_STOP), "bedrock": binary(BEDROCK_TEXT, BEDROCK_STOP)}
WHOLE = {
    "openai": sse(OPENAI_TEXT, OPENAI_STOP, OPENAI_USAGE, "[DONE]"),
    "anthropic": sse(ANTHROPIC_TEXT, ANTHROPIC_STOP, {"type": "message_stop"}),
    "bedrock": binary(BEDROCK_TEXT, BEDROCK_STOP, ("metadata", {"usage": {"inputTokens": 3, "outputTokens": 1}})),
}
UNMARKED = {
    "openai": sse(OPENAI_TEXT, OPENAI_USAGE, "[DONE]"),
    "anthropic": sse(ANTHROPIC_TEXT, ANTHROPIC_STOP),
    "bedrock": binary(BEDROCK_TEXT),
}


@pytest.mark.parametrize("after", ["end", "cut", "hang"])
@pytest.mark.parametrize("kind", sorted(MARKED))
async def test_what_breaks_after_the_end_marker_costs_only_the_usage(kind: ProviderKind, after: After) -> None:
    reply = chunked(MARKED[kind], end=after == "end")
    async with raw_provider(kind, reply, after) as provider:
        heard = await hear(provider, spec_for(kind, clocks=SHORT))
    assert heard.error is None
    assert (heard.said(), heard.finish_reason, heard.usage) == ("Hi", "stop", None)


@pytest.mark.parametrize("kind", sorted(UNMARKED))
async def test_a_clean_end_without_the_end_marker_is_an_error(kind: ProviderKind) -> None:
    """Not even `[DONE]`, usage or a stop reason make up for it."""
    async with raw_provider(kind, chunked(UNMARKED[kind], end=True)) as provider:
        heard = await hear(provider, spec_for(kind))
    assert (heard.broke().code, heard.broke().cause) == ("stream_ended_early", "broken")
    assert heard.said() == "Hi"


async def test_usage_after_the_finish_reason_is_read() -> None:
    reply = chunked(sse(OPENAI_TEXT, OPENAI_STOP), sse(OPENAI_USAGE, "[DONE]"), end=True)
    async with raw_provider("openai", reply) as provider:
        heard = await hear(provider, spec_for("openai"))
    assert heard.usage == OPENAI_USAGE["usage"]


async def test_a_server_that_keeps_the_connection_open_after_its_last_event_does_not_hold_the_call_up() -> None:
    reply = chunked(sse(OPENAI_TEXT, OPENAI_STOP, OPENAI_USAGE, "[DONE]"), end=False)
    spec = spec_for("openai", clocks=Clocks(first_byte_s=600, between_bytes_s=600))
    async with raw_provider("openai", reply, "hang") as provider, asyncio.timeout(20):
        heard = await hear(provider, spec)
    assert heard.finish_reason == "stop"


@pytest.mark.parametrize("kind", sorted(WHOLE))
async def test_calls_one_after_the_other_share_a_connection(
    kind: ProviderKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bedrock, "TAIL_S", 20)  # its thread may be late; it ends the wait as soon as it is done
    connections: list[int] = []
    async with raw_provider(kind, chunked(WHOLE[kind], end=True), "keep", connections) as provider:
        for _ in range(5):
            assert (await hear(provider, spec_for(kind))).error is None
    assert connections == [5]


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
async def test_an_event_cut_in_its_middle_by_a_clean_end_ended_early(kind: ProviderKind) -> None:
    whole = {"openai": sse(OPENAI_TEXT, OPENAI_STOP), "anthropic": sse(ANTHROPIC_TEXT, ANTHROPIC_STOP)}[kind]
    async with raw_provider(kind, chunked(whole[:-20], end=True)) as provider:
        heard = await hear(provider, spec_for(kind))
    assert heard.broke().code == "stream_ended_early"


@pytest.mark.parametrize("kind", ["openai", "anthropic", "bedrock"])
async def test_a_page_of_html_is_no_answer(kind: ProviderKind) -> None:
    page = b"<html><body>Welcome to our proxy</body></html>"
    async with raw_provider(kind, answer(page)) as provider:
        heard = await hear(provider, spec_for(kind))
    assert heard.broke().code in ("stream_ended_early", "stream_garbage")
    assert heard.broke().cause == "broken"


@pytest.mark.parametrize("kind", ["openai", "anthropic", "bedrock"])
async def test_a_message_repeats_neither_key_nor_prompt(kind: ProviderKind) -> None:
    secret, key = "my diary says that I am the king of Elba", "sk-proj-abcdef1234567890"
    said = f"Bad input '{secret}' with key {key}, Authorization: Bearer {key}"
    body = b'{"error": {"message": "%s", "type": "x"}, "message": "%s"}' % (said.encode(), said.encode())
    for status in (400, 401, 500):
        async with raw_provider(kind, answer(body, status=status, headers="content-type: application/json\r\n")) as p:
            message = (await refusal(p, spec_for(kind, f"Listen: {secret}!"))).message
        assert "king of Elba" not in message
        assert "abcdef" not in message


@pytest.mark.parametrize("kind", ["openai", "anthropic", "bedrock"])
async def test_a_providers_own_explanation_is_quoted(kind: ProviderKind) -> None:
    said = "max_tokens: 900000 is more than this model allows"
    body = b'{"error": {"message": "%s", "type": "invalid_request_error"}, "message": "%s"}' % ((said.encode(),) * 2)
    async with raw_provider(kind, answer(body, status=400, headers="content-type: application/json\r\n")) as provider:
        error = await refusal(provider, spec_for(kind))
    assert said in error.message


async def test_parameters_that_boto_refuses_are_named_without_their_values() -> None:
    async with raw_provider("bedrock", answer(b"{}")) as provider:
        spec = spec_for("bedrock", "a secret of state", params={"guardrailConfig": {"guardrail": "a secret of state"}})
        error = await refusal(provider, spec)
    assert (error.code, error.cause) == ("provider_bad_request", "rejected")
    assert "guardrail" in error.message
    assert "secret of state" not in error.message
