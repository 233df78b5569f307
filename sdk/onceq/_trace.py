"""The caller's trace, passed on to onceq: one trace then reaches from the program to the provider."""

from __future__ import annotations

import sys


def trace_headers() -> dict[str, str]:
    """`traceparent` (and `tracestate`) of the current span; empty without one.

    A program that has not imported OpenTelemetry has no span: it is not imported for that.
    """
    if "opentelemetry.trace" not in sys.modules:
        return {}
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    headers: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(headers)
    return headers
