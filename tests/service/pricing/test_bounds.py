"""What a request may cost at most: over whatever is asked, no bill of the simulator and of no price list passes it."""

from __future__ import annotations

import asyncio
import unicodedata
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Literal

import genai_prices
import pytest
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onceq.wire import JobRequest
from onceq_service.anthropic_limit import DEFAULT_MAX_TOKENS
from onceq_service.pricing import Tariff, bounds, call_bound, cost_bounds
from onceq_service.pricing.tables import to_nano
from onceq_service.providers import _anthropic_request, open_providers
from onceq_service.providers.base import CallSpec
from onceq_service.settings import DEFAULT_PROVIDERS, PriceConfig, ProviderKind, on_simulator
from onceq_service.simulator import SimulatorServer
from tests.service.providers.conftest import simulator
from tests.service.providers.kit import KINDS, MODELS, PATIENT, Heard, Meter, hear, sim, spec_for

__all__ = ["simulator"]

TARIFF: Final = Tariff(DEFAULT_PROVIDERS)
OPENAI_MINI: Final = "openai/gpt-4o-mini"
TABLES: Final = {"openai": "openai", "anthropic": "anthropic", "aws": "bedrock"}
TEXTS: Final = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200)
PIXEL: Final = "iVBORw0KGgoA" + "A" * 400
TOOL: Final = {
    "name": "look_up", "description": "Finds a word.",
    "parameters": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
}  # fmt: skip
SCHEMA: Final = {
    "type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"],
    "additionalProperties": False,
}  # fmt: skip


def body(request: JobRequest) -> bytes:
    return request.model_dump_json(exclude_none=True, by_alias=True).encode()


def bound(model: str, tariff: Tariff = TARIFF, **fields: Any) -> bounds.CallBound:
    request = JobRequest.model_validate({"model": model, "prompt": "Name three rivers.", **fields})
    return call_bound(tariff, model, request, body(request))


@st.composite
def asked(draw: st.DrawFn) -> dict[str, Any]:
    """Fields of a request that all three providers take, with a directive for the simulator's answer."""
    directive = sim(
        tokens=draw(st.integers(0, 300)), reasoning=draw(st.sampled_from([0, 0, 40])),
        cached=draw(st.sampled_from([0, 5, 10_000])), cache_write=draw(st.sampled_from([0, 7, 10_000])),
    )  # fmt: skip
    image = {"type": "image", "data": PIXEL, "media_type": "image/png"}
    words = draw(TEXTS) * draw(st.sampled_from([1, 1, 50]))
    said = [{"type": "text", "text": f"{directive} {words}"}, *draw(st.sampled_from([[], [image]]))]
    turns = [{"role": "user", "content": draw(TEXTS)}, {"role": "assistant", "content": draw(TEXTS)}]
    fields: dict[str, Any] = {"messages": [*draw(st.sampled_from([[], turns])), {"role": "user", "content": said}]}
    fields |= draw(st.sampled_from([{}, {"system": "Be short. Ünï 東京."}]))
    fields |= draw(st.sampled_from([{}, {"max_tokens": 1}, {"max_tokens": 77}]))
    shape = {"response_format": {"type": "json_schema", "schema": SCHEMA}}
    return fields | draw(st.sampled_from([{}, {"tools": [TOOL]}, shape]))


@pytest.mark.parametrize("kind", KINDS)
@given(fields=asked())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_call_of_any_provider_is_billed_more_than_its_bound(
    kind: ProviderKind, fields: dict[str, Any], simulator: SimulatorServer
) -> None:
    request = JobRequest.model_validate({"model": f"{kind}/{MODELS[kind]}", **fields})
    result, row = asyncio.run(_billed(simulator, kind, request))
    assert result.error is None
    most = call_bound(TARIFF, f"{kind}/{MODELS[kind]}", request, body(request))
    assert most.nano_usd is not None
    assert most.output_tokens is not None
    assert 0 < row["nano_usd"] <= most.nano_usd
    assert row["input_tokens"] <= most.input_tokens
    assert row["output_tokens"] <= most.output_tokens


async def _billed(simulator: SimulatorServer, kind: ProviderKind, request: JobRequest) -> tuple[Heard, dict[str, Any]]:
    provider = open_providers({kind: on_simulator(DEFAULT_PROVIDERS[kind], simulator.url)}, {})[kind]
    spec = CallSpec(request, MODELS[kind], f"job_{id(request):032x}{datetime.now(UTC).timestamp():.6f}/1", PATIENT)
    try:
        return await hear(provider, spec), await Meter(simulator.url).row(spec)
    finally:
        await provider.close()


def _models() -> list[tuple[str, ModelInfo]]:
    return [(p.id, m) for p in get_snapshot().providers if p.id in TABLES for m in p.models]


PRICED: Final = [(table, m) for table, m in _models() if TARIFF.ceilings(f"{TABLES[table]}/{m.id}") is not None]


@given(
    found=st.sampled_from(PRICED), share=st.tuples(st.floats(0, 1), st.floats(0, 1)), size=st.integers(1, 1_500_000),
    output=st.integers(0, 10_000), hours=st.integers(0, 24 * 7), variant=st.integers(0, 9),
)  # fmt: skip
@settings(max_examples=400, deadline=None)
def test_no_price_list_comes_to_more_at_any_hour_of_a_job_in_any_tier(
    found: tuple[str, ModelInfo], share: tuple[float, float], size: int, output: int, hours: int, variant: int
) -> None:
    table, model = found
    cached = int(size * share[0])
    written = int((size - cached) * share[1])
    usage = genai_prices.Usage(
        input_tokens=size, cache_read_tokens=cached or None, cache_write_tokens=written or None, output_tokens=output
    )
    variants = model.price_variants or []
    context = variants[variant].when if variant < len(variants) else None
    at = datetime.now(UTC) + timedelta(hours=hours)
    prices = model.get_prices(at, dict(context) if context else None)
    try:
        bill = to_nano(Decimal(prices.calc_price(usage)["total_price"]))
    except ValueError:
        return  # it has no price for cached input
    ceilings = TARIFF.ceilings(f"{TABLES[table]}/{model.id}")
    assert ceilings is not None
    step = ceilings.at(size)
    assert bill <= -(-(size * step.input + output * step.output) // 1_000_000)


def test_a_long_prompt_is_bound_by_the_price_beyond_the_threshold() -> None:
    ceilings = TARIFF.ceilings("anthropic/claude-sonnet-4-5")
    assert ceilings is not None
    assert ceilings.at(200_001).input > ceilings.at(200_000).input
    assert ceilings.at(10).output < ceilings.at(200_001).output


def test_a_letter_that_a_tokenizer_writes_out_counts_as_what_it_becomes() -> None:
    one, many = bound("openai/gpt-4o-mini", prompt="\ufdfa"), bound("openai/gpt-4o-mini", prompt="\ufdfa" * 101)
    assert many.input_tokens - one.input_tokens == 100 * 33, "U+FDFA is three bytes, and a sentence of 33"


@given(text=st.text(st.characters(exclude_categories=["Cs"], max_codepoint=0xFFFF) | st.sampled_from("…ﷺ，½ a")))
def test_letters_that_a_tokenizer_writes_out_count_as_often_as_they_are_there(text: str) -> None:
    written_out = sum(len(unicodedata.normalize("NFKC", letter).encode()) for letter in text)
    assert bounds._bytes(text.encode()) == max(len(text.encode()), written_out)  # pyright: ignore[reportPrivateUsage]


def test_a_letter_is_written_out_once_however_long_the_text_and_however_many_models(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The API does it in its event loop, for texts of megabytes too."""
    asked: list[str] = []
    normalize = unicodedata.normalize

    class Counting:
        is_normalized = staticmethod(unicodedata.is_normalized)

        @staticmethod
        def normalize(form: Literal["NFKC"], letter: str) -> str:
            asked.append(letter)
            return normalize(form, letter)

    monkeypatch.setattr(bounds, "unicodedata", Counting)
    request = JobRequest(model=OPENAI_MINI, prompt="It was late… and long ago， " * 10_000)
    cost_bounds(TARIFF, [OPENAI_MINI, "openai/gpt-4o"], request, body(request), 3)
    assert sorted(asked) == ["…", "，"], "both models are of one provider"


def test_an_image_counts_by_its_number_not_by_its_bytes() -> None:
    def with_image(data: str) -> int:
        part = {"type": "image", "data": data, "media_type": "image/png"}
        message = {"role": "user", "content": [{"type": "text", "text": "What is it?"}, part]}
        request = JobRequest.model_validate({"model": "anthropic/claude-haiku-4-5", "messages": [message]})
        return bounds.input_tokens(request, body(request), "anthropic")

    assert with_image("A" * 40_000) == with_image("A" * 4) > bounds.IMAGE_TOKENS["anthropic"]


def test_the_answer_is_bound_by_max_tokens_else_by_what_we_send_else_by_the_context() -> None:
    assert bound("openai/gpt-4o-mini", max_tokens=50).output_tokens == 50
    assert bound("openai/gpt-4o-mini").output_tokens == 128_000
    assert bound("anthropic/claude-haiku-4-5").output_tokens == DEFAULT_MAX_TOKENS


@pytest.mark.parametrize("asked_for", [
    {}, {"max_tokens": 1}, {"params": {"thinking": {"type": "enabled", "budget_tokens": 2_000}}},
    {"params": {"thinking": {"type": "adaptive"}}},
])  # fmt: skip
def test_the_bound_covers_the_longest_answer_that_anthropic_is_asked_for(asked_for: dict[str, Any]) -> None:
    sent = _anthropic_request.to_body(spec_for("anthropic", **asked_for))
    assert bound(f"anthropic/{sent['model']}", **asked_for).output_tokens == sent["max_tokens"]


def test_a_model_without_a_price_has_no_bound() -> None:
    got = bound("openai/nobody-knows-me", max_tokens=5)
    assert (got.nano_usd, got.why) == (None, "unpriced_model")
    assert "openai/nobody-knows-me" in got.detail


def test_an_answer_of_unknown_length_has_no_bound() -> None:
    own = PriceConfig.model_validate({"model": "openai/mine", "from": datetime(2026, 1, 1, tzinfo=UTC).date(),
                                      "input": "1", "output": "2"})  # fmt: skip
    tariff = Tariff(DEFAULT_PROVIDERS, [own])
    got = bound("openai/mine", tariff)
    assert (got.nano_usd, got.output_tokens, got.why) == (None, None, "unbounded_cost")
    limited = bound("openai/mine", tariff, max_tokens=10)
    assert limited.nano_usd == limited.input_tokens * 1_000 + 10 * 2_000


def test_params_that_may_cost_anything_leave_no_bound_and_harmless_ones_do() -> None:
    assert bound("openai/gpt-4o-mini", max_tokens=9, params={"top_p": 0.5, "seed": 1}).nano_usd is not None
    got = bound("openai/gpt-4o-mini", max_tokens=9, params={"web_search_options": {}, "top_p": 1})
    assert (got.nano_usd, got.why) == (None, "unbounded_cost")
    assert "web_search_options" in got.detail
    assert "top_p" not in got.detail


def test_a_price_that_begins_within_the_job_counts_before_it_holds() -> None:
    today = datetime.now(UTC).date()
    rows = [("2026-01-01", "1"), ((today + timedelta(days=2)).isoformat(), "5"),
            ((today + timedelta(days=30)).isoformat(), "99")]  # fmt: skip
    own = [
        PriceConfig.model_validate(
            {"model": "openai/mine", "from": datetime.fromisoformat(since).date(), "input": usd, "output": "1"}
        )
        for since, usd in rows
    ]
    ceilings = Tariff(DEFAULT_PROVIDERS, own).ceilings("openai/mine")
    assert ceilings is not None
    assert ceilings.at(10).input == 5_000_000_000


def test_a_job_is_bound_by_all_its_calls_of_the_dearest_of_its_models() -> None:
    models = ["openai/gpt-4o-mini", "openai/gpt-4o"]
    request = JobRequest.model_validate({"model": models, "prompt": "hi", "max_tokens": 10})
    got = cost_bounds(TARIFF, models, request, body(request), 3)
    cheap, dear = got.calls
    assert cheap.nano_usd is not None
    assert dear.nano_usd is not None
    assert got.call is dear
    assert got.nano_usd == 3 * dear.nano_usd > 3 * cheap.nano_usd
    unknown = cost_bounds(TARIFF, [*models, "openai/nobody"], request, body(request), 3)
    assert (unknown.nano_usd, unknown.call.why) == (None, "unpriced_model")
