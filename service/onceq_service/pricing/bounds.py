"""What a request may cost at most, before anything is sent: a bound that the provider's bill never passes.

Input: a token stands for at least one byte of text, so there are no more tokens than bytes of the request, plus what
providers add around messages, tools and images. Output: `max_tokens`, which includes reasoning with all three. Both at
the dearest price that may hold (ceilings.py). Where one of these is not known there is no bound, never a guess.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from onceq.wire import ImagePart, JobRequest
from onceq_service.anthropic_limit import anthropic_max_tokens
from onceq_service.pricing.ceilings import Ceilings, Step
from onceq_service.pricing.tables import MTOK
from onceq_service.pricing.tariff import Tariff
from onceq_service.settings import ProviderKind

Why = Literal["unpriced_model", "unbounded_cost"]

MESSAGE_TOKENS: Final = 16
"""Around one turn: its role and separators (OpenAI's cookbook counts 3 to 5), an item of a tool call or result."""
REQUEST_TOKENS: Final = 64
TOOLS_TOKENS: Final = 2_048
"""The provider's own instructions, once a request has tools or a schema: Anthropic's table of tool use tells 264 to 804
tokens by model."""
TOOL_TOKENS: Final = 128
"""Around one tool, beside twice its bytes: how a provider writes a schema into the prompt is its own business."""
IMAGE_TOKENS: Final[dict[ProviderKind, int]] = {"openai": 50_000, "anthropic": 8_000, "bedrock": 8_000}
"""One image in full detail. OpenAI: 48,169 with gpt-4o-mini (2,833 + 8 tiles of 5,667), the others less. Anthropic:
4,784. Bedrock: Claude's, and four tiles of 1,601 with Llama."""
FEW: Final = 32
"""So many letters are counted one by one: megabytes are not to be walked in Python, in the API's event loop."""
HARMLESS_PARAMS: Final[frozenset[str]] = frozenset({
    "top_p", "topP", "top_k", "topK", "min_p", "seed", "frequency_penalty", "presence_penalty", "repetition_penalty",
    "logit_bias", "logprobs", "top_logprobs", "parallel_tool_calls", "reasoning_effort", "reasoning", "verbosity",
    "thinking", "service_tier", "speed", "cache_control", "prompt_cache_key", "prompt_cache_retention", "user",
    "metadata", "requestMetadata", "safety_identifier", "additionalModelResponseFieldPaths", "truncation",
})  # fmt: skip
"""Of `params`, those that add no tokens beyond the request's own and no price beyond the model's. Others may: a search,
a stored prompt, audio, a guardrail, a limit of the model's own."""


class CallBound(NamedTuple):
    """The most that one call of a model may use and cost; `nano_usd` None: it has no bound, `why` and `detail` say why.

    `detail` is a sentence that says what to do. `output_tokens` is None where the length of the answer has no limit.
    """

    model: str
    input_tokens: int
    output_tokens: int | None
    nano_usd: int | None
    why: Why | None = None
    detail: str = ""
    prices: Step | None = None

    def longest(self, nano_usd: int) -> int:
        """Output tokens for which that much money is enough, 0 where the input alone may cost more."""
        if self.prices is None or self.prices.output == 0:
            return 0
        return max(0, (nano_usd * MTOK - self.input_tokens * self.prices.input) // self.prices.output)


class CostBounds(NamedTuple):
    """A job's: one call of each of its models, in their order, and how many calls it may make of any of them."""

    calls: tuple[CallBound, ...]
    max_calls: int

    @property
    def call(self) -> CallBound:
        """The dearest of the models; one without a bound before all others."""
        if len(self.calls) == 1:
            return self.calls[0]
        return max(self.calls, key=lambda call: (call.nano_usd is None, call.nano_usd or 0))

    @property
    def nano_usd(self) -> int | None:
        """All calls that the job may make, each at the dearest; None without a bound."""
        return None if self.call.nano_usd is None else self.call.nano_usd * self.max_calls


class CallRule(NamedTuple):
    """What bounds a call but for the length of its input; `why` and `detail` as in CallBound."""

    model: str
    kind: ProviderKind
    prices: Ceilings | None
    output_tokens: int | None
    why: Why | None = None
    detail: str = ""

    def bound(self, input_tokens: int) -> CallBound:
        """The bound of a call with at most so many input tokens."""
        nano = self.nano_usd(input_tokens)
        if nano is None or self.prices is None:
            return CallBound(self.model, input_tokens, self.output_tokens, None, self.why, self.detail)
        return CallBound(self.model, input_tokens, self.output_tokens, nano, prices=self.prices.at(input_tokens))

    def nano_usd(self, input_tokens: int) -> int | None:
        """The most that it may cost; None without a bound."""
        prices, output = self.prices, self.output_tokens
        if self.why or prices is None or output is None:
            return None
        step = prices.at(input_tokens)
        return -(-(input_tokens * step.input + output * step.output) // MTOK)


def cost_bounds(tariff: Tariff, models: Sequence[str], request: JobRequest, body: bytes, max_calls: int) -> CostBounds:
    """Bounds of a job that may be answered by any of `models` (`<provider>/<model id>`, at least one).

    `body` is the request as JSON, as the store keeps it.
    """
    rules = [call_rule(tariff, model, request) for model in models]
    kinds: set[ProviderKind] = {rule.kind for rule in rules}
    tokens = {kind: input_tokens(request, body, kind) for kind in kinds}
    return CostBounds(tuple(rule.bound(tokens[rule.kind]) for rule in rules), max_calls)


def call_bound(tariff: Tariff, model: str, request: JobRequest, body: bytes) -> CallBound:
    """The bound of one call. The first look at a model imports the price tables, which takes a second."""
    rule = call_rule(tariff, model, request)
    return rule.bound(input_tokens(request, body, rule.kind))


def call_rule(tariff: Tariff, model: str, request: JobRequest) -> CallRule:
    """What bounds each call of a model for requests that ask for as long an answer, in the same way."""
    kind, prices = tariff.kind(model) or "openai", tariff.ceilings(model)
    wanted = _output_tokens(request, kind, prices)
    if prices is None:
        return CallRule(model, kind, None, wanted, "unpriced_model", _unpriced(model))
    strange = sorted(set(request.params) - HARMLESS_PARAMS) if request.params else ()
    if strange:
        return CallRule(model, kind, prices, wanted, "unbounded_cost", _strange(strange))
    if wanted is None:
        return CallRule(model, kind, prices, None, "unbounded_cost", _endless(model))
    return CallRule(model, kind, prices, wanted)


def input_tokens(request: JobRequest, body: bytes, kind: ProviderKind) -> int:
    """No provider counts more input for this request. Images count by number, not by the bytes of their data."""
    if request.messages is None:
        return REQUEST_TOKENS + MESSAGE_TOKENS + _bytes(body) + _structure_tokens(request)
    mixed = [turn.content for turn in request.messages if turn.content and not isinstance(turn.content, str)]
    images = [part for content in mixed for part in content if isinstance(part, ImagePart)]
    text = _bytes(body) - sum([len(image.data or "") for image in images])
    turns = MESSAGE_TOKENS * sum([1 + len(turn.tool_calls or ()) for turn in request.messages])
    return REQUEST_TOKENS + text + turns + _structure_tokens(request) + IMAGE_TOKENS[kind] * len(images)


def _bytes(body: bytes) -> int:
    """UTF-8 bytes; some tokenizers write compatibility characters out first (NFKC), and one may become many."""
    if body.isascii():
        return len(body)
    text = body.decode()
    if unicodedata.is_normalized("NFKC", text):
        return len(body)
    longer = {letter: more for letter in set(text) if not letter.isascii() and (more := _written_out(letter))}
    if len(longer) > FEW:
        return len(body) + max(0, sum(longer.get(letter, 0) * count for letter, count in Counter(text).items()))
    return len(body) + max(0, sum(more * text.count(letter) for letter, more in longer.items()))


def _written_out(letter: str) -> int:
    """How many bytes more it has then; fewer, if negative."""
    return len(unicodedata.normalize("NFKC", letter).encode()) - len(letter.encode())


def _structure_tokens(request: JobRequest) -> int:
    shape = request.response_format
    if request.tools is None and (shape is None or shape.type == "text"):
        return 0
    parts = [*(request.tools or ()), *([shape] if shape else ())]
    return TOOLS_TOKENS + sum(TOOL_TOKENS + len(part.model_dump_json()) for part in parts)


def _output_tokens(request: JobRequest, kind: ProviderKind, prices: Ceilings | None) -> int | None:
    """Without `max_tokens` an answer ends at the latest where the model's context does."""
    if request.max_tokens is not None:
        return request.max_tokens
    if kind == "anthropic":
        return anthropic_max_tokens(request)
    return prices.window if prices else None


def _unpriced(model: str) -> str:
    return f"The price of {model} is not known. Give it one under [[prices]] in onceq.toml, or ask another model."


def _strange(names: Sequence[str]) -> str:
    return f"What params {', '.join(names)} may cost is not known. Leave them out."


def _endless(model: str) -> str:
    return f"An answer of {model} has no known longest length. Set max_tokens."
