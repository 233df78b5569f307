"""One trace from the POST through Redis and the worker to the provider: real processes, and a receiver of OTLP/HTTP."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NoOpTracer

import onceq
from onceq_service.embedded.redis_server import EmbeddedRedis
from onceq_service.store import open_store
from onceq_service.tracing import TRACEPARENT, Tracing, context_of, open_tracing
from tests.service.api.kit import JOBS, MODEL, SECRET, Http, ask, http
from tests.stack import Stack, running_stack
from tests.waiting import wait_until

SERVER, CLIENT, CONSUMER = 2, 3, 5
"""Kinds of spans, as OTLP numbers them."""


@dataclass(frozen=True)
class Seen:
    """One span as it was received; ids in hex, `parent` empty for a root."""

    service: str
    name: str
    kind: int
    trace: str
    id: str
    parent: str
    failed: bool
    attributes: dict[str, Any]


@dataclass
class Receiver:
    """What has come in so far."""

    spans: list[Seen] = field(default_factory=list[Seen])

    def of(self, trace: str, kind: int) -> list[Seen]:
        return [span for span in self.spans if (span.trace, span.kind) == (trace, kind)]

    def whole(self, trace: str, calls: int = 1) -> list[Seen]:
        """The spans of a trace, once that many calls and the jobs around them are there."""

        def find() -> list[Seen] | None:
            found = [span for span in self.spans if span.trace == trace]
            there = [len(self.of(trace, kind)) for kind in (SERVER, CONSUMER, CLIENT)]
            return found if there[0] >= 1 and there[1] >= calls and there[2] >= calls else None

        return wait_until(find, f"{calls} calls in trace {trace}")


def plain(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [plain(one) for one in value.array_value.values]
    return getattr(value, kind) if kind else None


def read(body: bytes) -> list[Seen]:
    request = ExportTraceServiceRequest.FromString(body)
    return [
        Seen(
            next(a.value.string_value for a in group.resource.attributes if a.key == "service.name"),
            s.name, s.kind, s.trace_id.hex(), s.span_id.hex(), s.parent_span_id.hex(), s.status.code == 2,
            {a.key: plain(a.value) for a in s.attributes},
        )
        for group in request.resource_spans for scope in group.scope_spans for s in scope.spans
    ]  # fmt: skip


@contextmanager
def receiving() -> Generator[tuple[Receiver, str]]:
    """A collector on loopback, and its URL."""
    receiver = Receiver()

    class Take(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            receiver.spans += read(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Take)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def traced(redis_server: EmbeddedRedis) -> Generator[tuple[Stack, Receiver]]:
    """A stack whose processes send their spans to a receiver."""
    with receiving() as (receiver, url), ExitStack() as running:
        with pytest.MonkeyPatch.context() as env:  # for these processes alone
            env.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
            env.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
            stack = running.enter_context(running_stack(redis_server, workers=1))
        yield stack, receiver
        said = stack.api.text() + stack.worker.text()
        assert "Traceback" not in said


@pytest.fixture
def client(traced: tuple[Stack, Receiver]) -> Generator[Http]:
    with http(traced[0], f"t{uuid4().hex[:12]}") as opened:
        yield opened


def caller() -> tuple[str, str, dict[str, str]]:
    """A trace of the caller's: its id, its span's id, and the header that tells of them."""
    trace, span = uuid4().hex, uuid4().hex[:16]
    return trace, span, {"traceparent": f"00-{trace}-{span}-01"}


def test_one_trace_reaches_from_the_caller_over_post_and_worker_to_the_provider(
    traced: tuple[Stack, Receiver], client: Http
) -> None:
    stack, receiver = traced
    trace, above, headers = caller()
    job = client.done(ask(tokens=7) | {"max_tokens": 50, "temperature": 0.5}, **headers)
    spans = {span.kind: span for span in receiver.whole(trace)}
    assert len(spans) == len(receiver.whole(trace)) == 3
    server, consumer, call = spans[SERVER], spans[CONSUMER], spans[CLIENT]
    assert (server.parent, consumer.parent, call.parent) == (above, server.id, consumer.id)
    assert (server.service, consumer.service, call.service) == ("onceq-api", "onceq-worker", "onceq-worker")
    assert (server.name, consumer.name) == (f"POST {JOBS}", f"process {stack.queue}")
    assert server.attributes["http.response.status_code"] == 202
    assert {span.attributes["onceq.job.id"] for span in spans.values()} == {job.id}
    assert consumer.attributes["onceq.job.status"] == "succeeded"
    assert not any(span.failed for span in spans.values())
    model = MODEL.partition("/")[2]
    assert call.name == f"chat {model}"
    assert job.usage is not None
    assert call.attributes.items() >= {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": model,
        "gen_ai.request.max_tokens": 50, "gen_ai.request.temperature": 0.5, "gen_ai.request.stream": True,
        "gen_ai.response.finish_reasons": ["stop"], "gen_ai.usage.input_tokens": job.usage.input_tokens,
        "gen_ai.usage.output_tokens": 7, "server.address": "127.0.0.1", "onceq.call": 1, "onceq.try": 1,
        "onceq.call.billed": True, "onceq.simulated": True, "onceq.cost.nano_usd": job.cost.nano_usd,
    }.items()  # fmt: skip
    assert call.attributes["gen_ai.response.time_to_first_chunk"] > 0


@pytest.mark.parametrize(("model", "name"), [
    ("anthropic/claude-haiku-4-5", "anthropic"), ("bedrock/amazon.nova-lite-v1:0", "aws.bedrock"),
])  # fmt: skip
def test_each_provider_is_named_as_the_conventions_do(
    traced: tuple[Stack, Receiver], client: Http, model: str, name: str
) -> None:
    trace, _, headers = caller()
    client.done(ask(tokens=3) | {"model": model}, **headers)
    traced[1].whole(trace)
    [call] = traced[1].of(trace, CLIENT)
    assert call.attributes["gen_ai.provider.name"] == name
    assert call.attributes["gen_ai.usage.output_tokens"] == 3


def test_a_retried_job_has_a_span_for_each_call_in_the_same_trace(traced: tuple[Stack, Receiver], client: Http) -> None:
    trace, _, headers = caller()
    job = client.done(ask(tokens=20, fault="cut", after=5, times=1), **headers)
    assert (job.status, job.calls) == ("succeeded", 2)
    traced[1].whole(trace, calls=2)
    first, second = sorted(traced[1].of(trace, CLIENT), key=lambda span: span.attributes["onceq.call"])
    assert (first.attributes["error.type"], first.failed) == ("stream_broken", True)
    assert "gen_ai.usage.output_tokens" not in first.attributes, "only what the provider has reported"
    assert ("error.type" in second.attributes, second.failed) == (False, False)
    assert second.attributes["gen_ai.usage.output_tokens"] == 20
    around = {span.id: span for span in traced[1].of(trace, CONSUMER)}
    assert [around[call.parent].attributes["onceq.job.status"] for call in (first, second)] == ["queued", "succeeded"]
    assert len({span.parent for span in around.values()}) == 1, "both are parts of the one post"


def test_a_refused_call_and_its_job_say_why(traced: tuple[Stack, Receiver], client: Http) -> None:
    trace, _, headers = caller()
    job = client.done(ask(fault=400), **headers)
    assert job.error is not None
    traced[1].whole(trace)
    [call], [consumer] = traced[1].of(trace, CLIENT), traced[1].of(trace, CONSUMER)
    assert call.attributes["error.type"] == consumer.attributes["error.type"] == job.error.code
    assert (call.attributes["http.response.status_code"], call.attributes["onceq.call.billed"]) == (400, False)
    assert consumer.attributes["onceq.job.status"] == "failed"


def test_the_jobs_of_a_batch_and_a_replay_are_parts_of_their_posts(
    traced: tuple[Stack, Receiver], client: Http
) -> None:
    trace, _, headers = caller()
    items = [{"job": ask()}, {"job": ask(fault=400)}]
    made = client.post(f"{JOBS}/batch", json={"items": items}, headers=headers).json()["items"]
    for item in made:
        client.job(item["job"]["id"], wait=60)
    traced[1].whole(trace, calls=2)
    again, _, headers = caller()
    assert client.post(f"{JOBS}/{made[1]['job']['id']}/replay", headers=headers).status_code == 202
    [post] = [span for span in traced[1].whole(again) if span.kind == SERVER]
    assert post.name == f"POST {JOBS}/{{job_id}}/replay"


def test_no_span_has_a_word_of_a_prompt_or_an_answer_or_a_key(traced: tuple[Stack, Receiver], client: Http) -> None:
    trace, _, headers = caller()
    told = "the quick brown answer"
    body = ask(text=f'"{told}"') | {"system": f"{SECRET} system", "user": f"{SECRET}-user"}
    assert client.done(body, idempotency_key=f"{SECRET}-key", **headers).status == "succeeded"
    traced[1].whole(trace)
    everything = repr(traced[1].spans)
    assert SECRET not in everything
    assert "brown" not in everything
    assert client.headers["authorization"].removeprefix("Bearer ") not in everything


def test_what_the_caller_does_not_sample_is_not_sent(traced: tuple[Stack, Receiver], client: Http) -> None:
    trace, _, headers = caller()
    client.done(ask(), traceparent=headers["traceparent"][:-2] + "00")
    last, _, headers = caller()
    client.done(ask(), **headers)
    traced[1].whole(last)
    assert not [span for span in traced[1].spans if span.trace == trace]


def test_a_broken_traceparent_begins_a_trace_and_refuses_nothing(traced: tuple[Stack, Receiver], client: Http) -> None:
    job = client.done(ask(), traceparent="00-sesame-1-01")

    def found() -> Seen | None:
        mine = (s for s in traced[1].spans if s.kind == SERVER and s.attributes.get("onceq.job.id") == job.id)
        return next(mine, None)

    span = wait_until(found, "the post's span")
    assert span.parent == ""
    traced[1].whole(span.trace)


def test_the_sdk_goes_on_with_the_span_that_is_current(traced: tuple[Stack, Receiver]) -> None:
    stack, receiver = traced
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    with tracer.start_as_current_span("mine") as span, onceq.Client(stack.url, api_key=stack.api_key) as client:
        client.submit(ask()["prompt"], model=MODEL).result()
    context = span.get_span_context()
    [post] = [s for s in receiver.whole(f"{context.trace_id:032x}") if s.kind == SERVER]
    assert post.parent == f"{context.span_id:016x}"


def test_without_an_endpoint_nothing_is_traced_and_nothing_is_carried(stack: Stack) -> None:
    _, _, headers = caller()
    with http(stack) as client:
        job_id = client.submit(ask(), **headers)["id"]

    async def carried() -> bool:
        async with open_store(stack.redis.url, stack.queue) as store:
            fields = await store.jobs.fields(job_id, "default")
            assert fields is not None
            return "traceparent" in fields

    assert not asyncio.run(carried())
    assert open_tracing("x", {}) is None
    assert open_tracing("x", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h", "OTEL_SDK_DISABLED": "TRUE"}) is None
    assert TRACEPARENT.get() == ""
    assert not context_of("")


def test_an_api_that_is_not_traced_loads_no_exporter_and_has_nothing_around_its_door() -> None:
    program = (
        "import sys; from onceq_service.settings import Settings; from onceq_service.api.app import build_app;"
        "from onceq_service.api.middleware import ApiMiddleware; import onceq_service.worker.broker;"
        "assert isinstance(build_app(Settings()).entry, ApiMiddleware);"
        "assert not [m for m in sys.modules if m.startswith('opentelemetry.exporter')]"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_an_endpoint_without_the_extra_is_told_in_the_log_and_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with caplog.at_level(logging.WARNING):
        assert open_tracing("x", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}) is None
    assert "onceq[otel]" in caplog.text


async def test_a_collector_that_does_not_answer_does_not_keep_a_process_from_stopping() -> None:
    answered = threading.Event()
    try:
        async with asyncio.timeout(30):
            await Tracing(NoOpTracer(), answered.wait).close()
        assert not answered.is_set()
    finally:
        answered.set()
