"""OpenTelemetry, where it is asked for: spans of the API and of workers, sent over OTLP/HTTP.

Asked for by OTEL_EXPORTER_OTLP_ENDPOINT (or ..._TRACES_ENDPOINT), with the `otel` extra installed; everything else is
said by OpenTelemetry's own variables too (headers, sampler, OTEL_SERVICE_NAME, OTEL_SDK_DISABLED). The tracer provider
is ours, not the global one: libraries that would trace what they carry (prompts, answers) find nothing to trace with.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final

from opentelemetry.context import Context
from opentelemetry.trace import Span, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

TRACEPARENT: Final[ContextVar[str]] = ContextVar("traceparent", default="")
"""What the jobs that are admitted now carry to their workers; empty without tracing."""
ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
CLOSE_S: Final = 3.0
_W3C: Final = TraceContextTextMapPropagator()

log = logging.getLogger("onceq.tracing")


@dataclass(frozen=True, slots=True)
class Tracing:
    """A process's tracer."""

    tracer: Tracer
    _shutdown: Callable[[], object]

    async def close(self) -> None:
        """Sends what is left and ends; a collector that does not answer holds the stop up for three seconds at most."""
        sender = threading.Thread(target=self._shutdown, name="last-spans", daemon=True)
        sender.start()
        await asyncio.to_thread(sender.join, CLOSE_S)


def open_tracing(name: str, env: Mapping[str, str]) -> Tracing | None:
    """The process's tracing under this service name; None when it is not asked for, or not installed."""
    if not any(env.get(endpoint) for endpoint in ENDPOINTS) or env.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        log.warning("an OTLP endpoint is set, but OpenTelemetry is not installed: pip install 'onceq[otel]'")
        return None
    said = {"service.version": version("onceq"), "service.instance.id": str(os.getpid())}
    if not env.get("OTEL_SERVICE_NAME"):
        said["service.name"] = name
    provider = TracerProvider(resource=Resource.create(said), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider.get_tracer("onceq", version("onceq")), provider.shutdown)


def context_of(traceparent: str, tracestate: str = "") -> Context:
    """The trace that goes on here; an empty one when there is none, or when it is not well formed."""
    return _W3C.extract({"traceparent": traceparent, "tracestate": tracestate}, Context())


def traceparent_of(span: Span) -> str:
    """How another process goes on with this span's trace; empty when there is none."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, set_span_in_context(span, Context()))
    return carrier.get("traceparent", "")
