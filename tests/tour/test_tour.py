"""The tour: what onceq does, one concept a test, through the public surface alone. Read it from top to bottom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from itertools import islice

import pytest

from onceq import AsyncClient, Client, JobFailed
from tests.stack import Stack
from tests.waiting import wait_until

MODEL = "openai/gpt-4o-mini"


@pytest.fixture
def client(stack: Stack) -> Generator[Client]:
    with Client(base_url=stack.url, api_key=stack.api_key) as opened:
        yield opened


@pytest.fixture
async def aclient(stack: Stack) -> AsyncGenerator[AsyncClient]:
    async with AsyncClient(base_url=stack.url, api_key=stack.api_key) as opened:
        yield opened


def test_a_prompt_becomes_text(client: Client) -> None:
    stream = client.stream("The tour begins. [[sim tokens=30 tps=200 ttft_ms=20]]", model=MODEL)
    assert "".join(stream) == stream.text
    assert stream.job is not None
    assert stream.text == stream.job.text


def test_text_is_there_as_it_is_written(client: Client) -> None:
    stream = client.stream("It goes on and on. [[sim tokens=2000 tps=50 ttft_ms=20]]", model=MODEL)
    pieces = list(islice(stream, 4))
    assert "".join(pieces) == stream.text
    assert stream.job_id is not None
    assert client.get(stream.job_id).status == "running", "most of it is not written yet"
    client.cancel(stream.job_id)


def test_a_job_has_a_bill(client: Client) -> None:
    job = client.submit("What does this cost? [[sim tokens=10 tps=0 ttft_ms=0]]", model=MODEL).wait()
    assert job.status == "succeeded"
    assert job.usage is not None
    assert job.usage.output_tokens == 10
    assert job.cost.nano_usd is not None
    assert job.cost.nano_usd > 0
    assert job.simulated, "simulated work says so"


def test_the_same_request_again_is_the_same_job_and_costs_nothing(client: Client, stack: Stack) -> None:
    first = client.submit("Only once, please. [[sim tokens=5 tps=0 ttft_ms=0]]", model=MODEL)
    done = first.wait()
    again = client.submit("Only once, please. [[sim tokens=5 tps=0 ttft_ms=0]]", model=MODEL)
    assert (again.id, again.disposition) == (first.id, "replayed")
    assert again.wait().output == done.output
    assert len(stack.meter(first.id)) == 1


async def test_a_hundred_equal_posts_at_once_are_one_paid_call_and_a_hundred_streams(
    aclient: AsyncClient, stack: Stack
) -> None:
    prompt = "Everybody asks this. [[sim tokens=40 tps=200 ttft_ms=50]]"

    async def ask() -> tuple[str, str]:
        handle = await aclient.submit(prompt, model=MODEL)
        return handle.id, "".join([text async for text in handle.stream()])

    answers = await asyncio.gather(*(ask() for _ in range(100)))
    assert len(set(answers)) == 1
    [call] = stack.meter(answers[0][0])
    assert call["text"] == answers[0][1]


async def test_a_reader_that_was_cut_off_continues_where_it_was(aclient: AsyncClient) -> None:
    handle = await aclient.submit("Long story. [[sim tokens=60 tps=200 ttft_ms=10]]", model=MODEL)
    seen: list[str] = []
    last = 0
    async for event in handle.events():
        last = event.seq
        seen.append(event.data.text)
        if len(seen) > 5:
            break
    async for event in handle.events(after=last):
        assert event.seq == last + 1, "no number is missing, none comes twice"
        last = event.seq
        seen.append(event.data.text)
    job = await handle.refresh()
    assert job.output is not None
    assert "".join(seen) == job.output.text


@pytest.mark.parametrize("model", [MODEL, "anthropic/claude-haiku-4-5", "bedrock/amazon.nova-lite-v1:0"])
def test_three_providers_are_one_interface(client: Client, stack: Stack, model: str) -> None:
    job = client.submit("Who are you? [[sim tokens=12 tps=0 ttft_ms=0]]", model=model).wait()
    assert (job.status, job.calls) == ("succeeded", 1)
    [call] = stack.meter(job.id)
    assert job.output is not None
    assert (job.output.text, job.cost.nano_usd) == (call["text"], call["nano_usd"])


def test_a_cancelled_job_stops_costing(client: Client, stack: Stack) -> None:
    handle = client.submit("Never mind. [[sim tokens=2000 tps=50 ttft_ms=0]]", model=MODEL)
    for event in handle.events():
        if event.name == "delta":
            break
    handle.cancel()
    job = handle.wait()
    assert job.status == "cancelled"
    assert job.output is not None
    assert job.output.text, "what had arrived is kept"
    wait_until(lambda: stack.meter(job.id)[0]["status"] == "aborted", "the provider to notice that nobody listens")
    [call] = stack.meter(job.id)
    assert call["output_tokens"] < 2000


def test_a_provider_that_says_no_is_an_error_with_a_code(client: Client) -> None:
    handle = client.submit("Refuse me. [[sim fault=400]]", model=MODEL)
    with pytest.raises(JobFailed) as failed:
        handle.result()
    assert failed.value.code == "provider_bad_request"


def test_a_provider_that_is_busy_is_asked_again_and_not_paid_twice(client: Client, stack: Stack) -> None:
    prompt = "Busy? [[sim fault=429 times=1 retry_after=0 tokens=5 tps=0 ttft_ms=0]]"
    job = client.submit(prompt, model=MODEL).wait()
    assert (job.status, job.tries, job.calls) == ("succeeded", 2, 1)
    assert len(stack.meter(job.id)) == 1


def test_a_stream_that_breaks_is_called_again_and_the_waste_is_counted(client: Client, stack: Stack) -> None:
    handle = client.submit("Break once. [[sim fault=cut times=1 after=5 tokens=20 tps=100 ttft_ms=0]]", model=MODEL)
    stream = handle.stream()
    text = "".join(stream)
    job = handle.wait()
    assert (job.status, job.calls) == ("succeeded", 2)
    assert job.output is not None
    assert job.output.text == stream.text
    assert text.endswith(stream.text), "the text of the broken call was voided by a reset"
    assert job.cost.wasted_nano_usd > 0
    assert len(stack.meter(job.id)) == 2
