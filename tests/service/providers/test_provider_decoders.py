"""What servers of the three formats also say: variants, oddities, and events that we do not know."""

from __future__ import annotations

import msgspec
import pytest

from onceq_service.providers import Delta, ProviderError
from onceq_service.providers._anthropic_wire import AnthropicDecoder
from onceq_service.providers._bedrock_wire import BedrockDecoder
from onceq_service.providers._openai_wire import OpenAIDecoder
from onceq_service.providers._stream import GarbageError
from onceq_service.simulator.eventstream import corrupt, encode_headers, event_headers, exception_headers, message
from tests.service.providers.kit import spec_for
from tests.service.providers.raw_server import binary


def openai_deltas(*events: object) -> tuple[OpenAIDecoder, list[Delta]]:
    decoder, out = OpenAIDecoder(spec_for("openai"), "openai"), list[Delta]()
    for event in events:
        decoder.feed(event.encode() if isinstance(event, str) else msgspec.json.encode(event), out)
    return decoder, out


def openai_piece(**delta: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": None}], "usage": None, "unknown": [1]}


def anthropic_deltas(*events: object) -> tuple[AnthropicDecoder, list[Delta]]:
    decoder, out = AnthropicDecoder(spec_for("anthropic"), "anthropic", by_tool=False), list[Delta]()
    for event in events:
        decoder.feed(msgspec.json.encode(event), out)
    return decoder, out


def bedrock() -> BedrockDecoder:
    return BedrockDecoder(spec_for("bedrock"), "bedrock", by_tool=False)


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_has_two_names_among_openai_servers(field: str) -> None:
    _, out = openai_deltas(openai_piece(role="assistant", content=None), openai_piece(**{field: "Hm"}))
    assert out == [Delta("reasoning", "Hm")]


def test_a_refusal_is_text() -> None:
    _, out = openai_deltas(openai_piece(refusal="I can't."))
    assert out == [Delta("text", "I can't.")]


def test_azures_first_chunk_without_choices_is_passed_over() -> None:
    decoder, out = openai_deltas({"choices": [], "prompt_filter_results": [{"prompt_index": 0}]})
    assert out == []
    assert not decoder.answer.answered


def test_usage_in_every_chunk_is_final_only_at_the_end() -> None:
    """Some servers (xAI, vLLM on request) count along."""
    usage = {"prompt_tokens": 3, "completion_tokens": 1}
    decoder, _ = openai_deltas(openai_piece(content="Hi") | {"usage": usage})
    assert (decoder.answer.usage, decoder.answer.usage_final) == (usage, False)
    decoder.feed(b'{"choices":[{"delta":{},"finish_reason":"length"}],"usage":{"prompt_tokens":3}}', [])
    assert decoder.answer.usage_final


def test_done_without_a_finish_reason_ends_nothing() -> None:
    decoder, _ = openai_deltas(openai_piece(content="Hi"), "[DONE]")
    assert not decoder.answer.finished


@pytest.mark.parametrize("error", ["too busy", {"message": "too busy", "code": 503}, {"type": "overloaded"}, {}])
def test_an_error_object_in_an_openai_stream_is_an_error_whatever_its_shape(error: object) -> None:
    with pytest.raises(ProviderError) as caught:
        openai_deltas({"error": error})
    assert caught.value.may_be_billed


def test_a_finish_reason_that_we_do_not_know_is_other() -> None:
    decoder, _ = openai_deltas({"choices": [{"finish_reason": "eos"}]})
    assert decoder.answer.finish_reason == "other"


def test_anthropics_pings_and_unknown_events_and_blocks_are_passed_over() -> None:
    decoder, out = anthropic_deltas(
        {"type": "ping"},
        {"type": "something_new", "index": 3},
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "server_tool_use", "id": "s", "input": {}},
        },
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "signature_delta", "signature": "x"}},
        {"type": "content_block_start", "index": 2, "content_block": {"type": "redacted_thinking", "data": "x"}},
    )
    assert out == []
    assert decoder.answer.usage is None


def test_anthropics_counts_are_cumulative_and_a_null_is_no_count() -> None:
    first = {"input_tokens": 9, "output_tokens": 1, "cache_read_input_tokens": 4}
    last = {"output_tokens": 7, "input_tokens": None}
    decoder, _ = anthropic_deltas(
        {"type": "message_start", "message": {"usage": first}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": last},
    )
    assert decoder.answer.usage == {"input_tokens": 9, "output_tokens": 7, "cache_read_input_tokens": 4}
    assert decoder.answer.usage_final
    assert not decoder.answer.answered, "only message_stop is the end"


def test_an_input_side_alone_is_not_final() -> None:
    usage = {"input_tokens": 9, "output_tokens": 1}
    decoder, _ = anthropic_deltas({"type": "message_start", "message": {"usage": usage}})
    assert (decoder.answer.usage, decoder.answer.usage_final) == (usage, False)


def test_fast_mode_is_told_to_the_price() -> None:
    usage = {"input_tokens": 9, "output_tokens": 1, "speed": "fast"}
    decoder, _ = anthropic_deltas({"type": "message_start", "message": {"usage": usage}})
    assert decoder.answer.price_context == {"speed": "fast"}


@pytest.mark.parametrize(
    ("stop_reason", "finish_reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("pause_turn", "other"),
    ],
)
def test_anthropics_stop_reasons(stop_reason: str, finish_reason: str) -> None:
    decoder, _ = anthropic_deltas({"type": "message_delta", "delta": {"stop_reason": stop_reason}})
    assert decoder.answer.finish_reason == finish_reason


@pytest.mark.parametrize(
    ("stop_reason", "finish_reason"),
    [
        ("end_turn", "stop"),
        ("max_tokens", "length"),
        ("tool_use", "tool_calls"),
        ("guardrail_intervened", "content_filter"),
        ("content_filtered", "content_filter"),
        ("malformed_model_output", "other"),
    ],
)
def test_bedrocks_stop_reasons(stop_reason: str, finish_reason: str) -> None:
    decoder = bedrock()
    decoder.feed(binary(("messageStop", {"stopReason": stop_reason})), [])
    assert decoder.answer.finish_reason == finish_reason


def test_bedrocks_messages_may_be_cut_anywhere() -> None:
    pieces = [("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": text}}) for text in ("Grüße", "🌍", "!")]
    stream = binary(("messageStart", {"role": "assistant"}), *pieces, ("something_new", {}))
    decoder, out = bedrock(), list[Delta]()
    for n in range(len(stream)):
        decoder.feed(stream[n : n + 1], out)
    assert "".join(delta.text for delta in out) == "Grüße🌍!"


def test_bedrocks_two_ways_to_say_an_error() -> None:
    modelled = message(exception_headers("throttlingException"), b'{"message":"Slow down"}')
    plain = message(encode_headers({":message-type": "error", ":error-code": "x", ":error-message": "Broken"}), b"")
    for frame, code, words in ((modelled, "provider_rate_limited", "Slow down"), (plain, "provider_error", "Broken")):
        with pytest.raises(ProviderError) as caught:
            bedrock().feed(frame, [])
        assert caught.value.code == code
        assert words in caught.value.message


def test_a_checksum_that_does_not_fit_is_garbage() -> None:
    frame = message(event_headers("contentBlockDelta"), b'{"contentBlockIndex":0,"delta":{"text":"Hi"}}')
    with pytest.raises(GarbageError):
        bedrock().feed(corrupt(frame), [])
