"""What a worker tells OpenTelemetry: one span for each time it holds a job, and one below it for each call.

Names are OpenTelemetry's conventions for messaging and for generative AI; what they have no name for is `onceq.*`.
Never a word of a prompt or an answer, never a key. No span is made current: provider SDKs would send its ids along.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Final
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, StatusCode, Tracer, set_span_in_context
from opentelemetry.util.types import AttributeValue

from onceq.wire import JobError
from onceq_service.store import LeaseLost
from onceq_service.store.engine import Claim, EndState
from onceq_service.tracing import context_of
from onceq_service.worker.attempt import Attempt

PROVIDER_NAMES: Final = {"openai": "openai", "anthropic": "anthropic", "bedrock": "aws.bedrock"}
"""Kinds of providers, as the conventions name them."""
_JOB: Final[ContextVar[Span]] = ContextVar("job span", default=INVALID_SPAN)
_UNSEEN: Final = nullcontext()
Attributes = dict[str, AttributeValue]


class Spans:
    """Makes them; without a tracer it costs nothing."""

    def __init__(self, tracer: Tracer | None = None, queue: str = "") -> None:
        self._tracer, self._queue = tracer, queue

    def job(self, claim: Claim) -> AbstractContextManager[None]:
        """A worker holds the job. Its `onceq.job.status` is how the job left the worker."""
        return _UNSEEN if self._tracer is None else self._job(self._tracer, claim)

    @contextmanager
    def _job(self, tracer: Tracer, claim: Claim) -> Generator[None]:
        span = tracer.start_span(
            f"process {self._queue}", context_of(claim.text("traceparent")), SpanKind.CONSUMER,
            {
                "messaging.system": "onceq", "messaging.operation.name": "process",
                "messaging.operation.type": "process", "messaging.destination.name": self._queue,
                "messaging.message.id": claim.id, "onceq.job.id": claim.id, "onceq.band": claim.text("band"),
                "onceq.lane": claim.text("lane"), "onceq.simulated": claim.text("simulated") == "1",
                "onceq.job.status": "queued",
            },
        )  # fmt: skip
        token = _JOB.set(span)
        try:
            yield
        except LeaseLost:
            _failed(span, "lease_lost")
            raise
        finally:
            _JOB.reset(token)
            span.end()

    def ended(self, state: EndState, error: JobError | None) -> None:
        """The job that is held now has ended like this."""
        span = _JOB.get()
        span.set_attribute("onceq.job.status", state)
        if error is not None:
            _failed(span, error.code)

    def call(self, attempt: Attempt) -> AbstractContextManager[None]:
        """One try at the provider, from the request to the end of its answer."""
        return _UNSEEN if self._tracer is None else self._call(self._tracer, attempt)

    @contextmanager
    def _call(self, tracer: Tracer, attempt: Attempt) -> Generator[None]:
        span = tracer.start_span(
            f"chat {attempt.model_id}", set_span_in_context(_JOB.get(), Context()), SpanKind.CLIENT, _asked(attempt)
        )
        try:
            yield
        finally:
            if span.is_recording():
                _note(span, attempt)
            span.end()


def _asked(attempt: Attempt) -> Attributes:
    place = urlsplit(attempt.provider.price_url or "")
    known: dict[str, AttributeValue | None] = {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": PROVIDER_NAMES[attempt.provider.kind],
        "gen_ai.request.model": attempt.model_id, "gen_ai.request.max_tokens": attempt.request.max_tokens,
        "gen_ai.request.temperature": attempt.request.temperature, "gen_ai.request.stream": True,
        "server.address": place.hostname, "server.port": place.port, "onceq.job.id": attempt.claim.id,
        "onceq.call": attempt.sent.call, "onceq.try": attempt.number,
        "onceq.call.resumed": attempt.sent.word == "resume",
        "onceq.simulated": attempt.claim.text("simulated") == "1",
    }  # fmt: skip
    return {name: value for name, value in known.items() if value is not None}


def _note(span: Span, attempt: Attempt) -> None:
    """How it went: usage and cost only where the provider has reported them; the ledger has the estimates."""
    receipt, result = attempt.receipt(), attempt.result
    span.set_attribute("onceq.call.billed", receipt.billed)
    if result.finish_reason is not None:
        span.set_attribute("gen_ai.response.finish_reasons", [result.finish_reason])
    if result.first_s is not None:
        span.set_attribute("gen_ai.response.time_to_first_chunk", result.first_s)
    if receipt.billed and not receipt.estimated:
        span.set_attribute("gen_ai.usage.input_tokens", receipt.input_tokens)
        span.set_attribute("gen_ai.usage.output_tokens", receipt.output_tokens)
        span.set_attribute("gen_ai.usage.cache_read.input_tokens", receipt.cached_tokens)
        span.set_attribute("gen_ai.usage.reasoning.output_tokens", receipt.reasoning_tokens)
        if receipt.spent_nano_usd is not None:
            span.set_attribute("onceq.cost.nano_usd", receipt.spent_nano_usd)
    if result.error is not None and result.error.status is not None:
        span.set_attribute("http.response.status_code", result.error.status)
    if receipt.outcome != "ok":
        _failed(span, receipt.outcome)


def _failed(span: Span, code: str) -> None:
    span.set_attribute("error.type", code)
    span.set_status(StatusCode.ERROR)
