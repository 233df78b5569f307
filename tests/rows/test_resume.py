"""N1: a worker is killed in mid-call, another one goes on with the same call: one bill, one whole text."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Generator

import httpx2
import pytest

from onceq import Client, JobCancelled, JobFailed, JobHandle, OnceqError
from onceq_service.embedded.redis_server import EmbeddedRedis
from onceq_service.store import open_store
from tests.stack import Stack, running_stack
from tests.waiting import wait_until

MODEL = "openai/gpt-4o-mini"


@pytest.fixture(scope="module")
def own(redis_server: EmbeddedRedis) -> Generator[Stack]:
    """A stack whose workers may be killed; they are found dead after five seconds."""
    with running_stack(redis_server, workers=1, lease_s="5", drain_s="0.2") as stack:
        yield stack


@pytest.fixture
def client(own: Stack) -> Generator[Client]:
    with Client(base_url=own.url, api_key=own.api_key, model=MODEL) as client:
        yield client


def kill_worker(own: Stack, how: signal.Signals = signal.SIGKILL) -> None:
    """Another one is there before it dies."""
    own.start_worker().stop(how)


def read(handle: JobHandle, pieces: int) -> str:
    """The text as far as so many pieces go; the reader stays away after that."""
    text = ""
    for n, piece in enumerate(handle.stream(), 1):
        text += piece
        if n == pieces:
            break
    return text


def test_a_killed_workers_call_is_taken_up_and_paid_once(client: Client, own: Stack) -> None:
    handles = [
        client.submit(f"Taken up {n}. [[sim tokens={100 + n} tps=12 ttft_ms=10]]", on_crash="resume") for n in range(8)
    ]
    begun = [read(handle, n + 1) for n, handle in enumerate(handles)]
    kill_worker(own)
    for handle, beginning in zip(handles, begun, strict=True):
        events = list(handle.events())
        job = handle.result(60)
        [call] = own.meter(handle.id)
        assert (job.calls, job.tries, job.text) == (1, 1, call["text"])
        assert job.text.startswith(beginning)
        assert "".join(event.data.text for event in events if event.name == "delta") == call["text"]
        assert [event.data.seq for event in events] == list(range(1, len(events) + 1))
        assert [event.name for event in events if event.name != "delta"] == [
            "queued", "started", "retrying", "succeeded",
        ]  # fmt: skip
        assert (job.cost.nano_usd, job.cost.wasted_nano_usd) == (call["nano_usd"], 0)
        [row] = client.ledger(job.id)
        assert (row.outcome, row.estimated) == ("ok", False)


def test_a_call_is_taken_up_that_has_a_name_and_no_text_yet(client: Client, own: Stack) -> None:
    handle = client.submit("Slow. [[sim tokens=20 tps=50 ttft_ms=4000]]", on_crash="resume")
    wait_until(lambda: asyncio.run(named(own, handle.id)), "the response's name to be stored")
    kill_worker(own)
    job = handle.result(60)
    assert [call["text"] for call in own.meter(job.id)] == [job.text]
    assert (job.calls, job.cost.wasted_nano_usd) == (1, 0)


async def named(own: Stack, job_id: str) -> bool:
    async with open_store(own.redis.url, own.queue) as store:
        return "resp" in (await store.jobs.fields(job_id, "default") or {})


def test_reasoning_and_tool_calls_go_on_where_they_were(client: Client, own: Stack) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
    prompt = "Call it. [[sim reasoning=30 tool=weather,weather tps=12 ttft_ms=10]]"
    tools = [{"name": "weather", "parameters": schema}]
    handle = client.submit(prompt, tools=tools, params={"reasoning": {"effort": "low"}}, on_crash="resume")
    for event in handle.events():
        if event.data.kind == "tool_call" and event.data.text:
            break
    kill_worker(own)
    job = handle.result(60)
    assert job.output is not None
    whole = client.submit(prompt, tools=tools, params={"reasoning": {"effort": "low"}}, fresh=True).result(60)
    assert whole.output is not None
    assert [(c.name, c.arguments) for c in job.output.tool_calls] == [
        (c.name, c.arguments) for c in whole.output.tool_calls
    ]
    assert len(own.meter(job.id)) == 1
    assert job.output.finish_reason == "tool_calls"


def test_a_worker_that_has_to_go_hands_its_call_over(client: Client, own: Stack) -> None:
    handle = client.submit("Handed over. [[sim tokens=120 tps=30 ttft_ms=10]]", on_crash="resume")
    read(handle, 3)
    kill_worker(own, signal.SIGTERM)
    job = handle.result(60)
    assert [call["text"] for call in own.meter(job.id)] == [job.text]
    assert (job.calls, job.cost.wasted_nano_usd) == (1, 0)


def test_a_connection_that_breaks_is_taken_up_without_a_second_call(client: Client, own: Stack) -> None:
    for fault in ("cut", "garbage", "end"):
        job = client.submit(f"Broken. [[sim fault={fault} after=4 tokens=20 tps=50]]", on_crash="resume").result(60)
        assert [call["text"] for call in own.meter(job.id)] == [job.text], fault
        assert (job.calls, job.cost.wasted_nano_usd) == (1, 0)


def test_a_response_that_is_not_streamed_any_more_is_polled_to_its_end(client: Client, own: Stack) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
    plain = client.submit("Polled. [[sim tokens=200 tps=30 ttft_ms=10 resumable=0]]", on_crash="resume")
    called = client.submit(
        "Polled too. [[sim tool=weather tps=4 ttft_ms=10 resumable=0]]",
        tools=[{"name": "weather", "parameters": schema}], on_crash="resume",
    )  # fmt: skip
    read(plain, 3)
    kill_worker(own)
    job = plain.result(60)
    assert [call["text"] for call in own.meter(job.id)] == [job.text]
    assert "".join(event.data.text for event in plain.events() if event.name == "delta") == job.text
    assert (job.calls, job.cost.wasted_nano_usd) == (1, 0)
    output = called.result(60).output
    assert output is not None
    assert [call.name for call in output.tool_calls] == ["weather"]
    assert set(json.loads(output.tool_calls[0].arguments)) <= {"city", "days"}
    assert len(own.meter(called.id)) == 1


def test_a_call_whose_response_had_no_name_yet_is_not_made_twice(client: Client, own: Stack) -> None:
    handle = client.submit("Nameless. [[sim fault=hang]]", on_crash="resume")
    wait_until(lambda: own.meter(handle.id), "the call to begin")
    kill_worker(own)
    with pytest.raises(JobFailed) as failed:
        handle.result(60)
    assert failed.value.job.error is not None
    assert failed.value.job.error.code == "worker_lost"
    assert len(own.meter(handle.id)) == 1


def test_a_cancel_stops_the_generation_too_even_while_nobody_holds_the_job(client: Client, own: Stack) -> None:
    handle = client.submit("Stopped. [[sim tokens=4000 tps=30 ttft_ms=10]]", on_crash="resume")
    read(handle, 2)
    own.worker.stop(signal.SIGKILL)
    handle.cancel()
    own.start_worker()
    with pytest.raises(JobCancelled):
        handle.result(60)
    wait_until(lambda: own.meter(handle.id)[0]["status"] == "cancelled", "the provider to be told")
    [row] = client.ledger(handle.id)
    assert (row.outcome, row.billed) == ("cancelled", True)


def test_a_cancel_stops_the_generation_whatever_holds_its_lane(client: Client, own: Stack) -> None:
    """Each moment of it is paid for, so it is not a job that a pause keeps waiting."""
    handle = client.submit("Stopped too. [[sim tokens=4000 tps=30 ttft_ms=10]]", on_crash="resume")
    read(handle, 2)
    own.worker.stop(signal.SIGKILL)
    client.pause(lane=MODEL)
    own.start_worker()
    wait_until(lambda: client.get(handle.id).waiting, "the job to wait for its lane")
    handle.cancel()
    with pytest.raises(JobCancelled):
        handle.result(30)
    client.resume(lane=MODEL)
    assert own.meter(handle.id)[0]["status"] == "cancelled"


def test_a_response_that_the_provider_has_forgotten_fails_the_job_with_its_text(client: Client, own: Stack) -> None:
    """The simulator remembers a thousand responses; so many others are made that this one is gone."""
    handle = client.submit("Forgotten. [[sim tokens=3000 tps=30 ttft_ms=10]]", on_crash="resume")
    text = read(handle, 3)
    own.worker.stop(signal.SIGKILL)
    forget(own)
    own.start_worker()
    with pytest.raises(JobFailed) as failed:
        handle.result(60)
    job = failed.value.job
    assert job.error is not None
    assert (job.error.code, job.error.retryable, job.calls) == ("resume_refused", True, 1)
    assert job.text.startswith(text)
    assert job.cost.wasted_nano_usd == job.cost.nano_usd


def forget(own: Stack) -> None:
    body = {"model": "gpt-4o-mini", "input": "x [[sim tokens=1 tps=0 ttft_ms=0]]", "background": True}
    with httpx2.Client(headers={"authorization": "Bearer not-needed"}) as other:
        for _ in range(1001):
            assert other.post(f"{own.simulator}/openai/v1/responses", json=body).status_code == 200


def test_only_what_can_be_resumed_may_ask_for_it(client: Client) -> None:
    for model in ("anthropic/claude-haiku-4-5", [MODEL, "bedrock/amazon.nova-lite-v1:0"]):
        with pytest.raises(OnceqError, match="on_crash"):
            client.submit("Never.", model=model, on_crash="resume")


def test_stop_sequences_can_not_be_kept_in_the_background_and_say_so(client: Client) -> None:
    with pytest.raises(JobFailed, match="stop sequences"):
        client.submit("Stop. [[sim tokens=3]]", stop=["x"], on_crash="resume").result(30)
