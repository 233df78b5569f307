"""What only one of the twins can show: many streams in one loop, leaving early, both inside a running loop, threads."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Timer
from types import ModuleType

import httpx2
import pytest

from onceq import AsyncClient, Client, JobFailed
from tests.sdk.fake import JOB_ID, FakeService, accepted, answer, job, whole_log


@pytest.fixture
def ready(fake: FakeService) -> FakeService:
    """A service on which every job says `Hello world`."""
    fake.on("POST /v1/jobs", accepted())
    fake.on("GET /v1/jobs/{id}", answer(job("succeeded", "Hello world")))
    fake.log(whole_log("Hello", " ", "world"))
    return fake


def made(fake: FakeService) -> AsyncClient:
    return AsyncClient(fake.url, "oq_test", model="openai/gpt-4o-mini")


async def test_a_stream_is_iterated_without_await(ready: FakeService) -> None:
    async with made(ready) as client:
        stream = client.stream("Hi")
        assert "".join([text async for text in stream]) == stream.text == "Hello world"
        assert stream.job is not None
        assert stream.job.status == "succeeded"


async def test_leaving_a_loop_early_leaves_nothing_behind(ready: FakeService) -> None:
    async with made(ready) as client:
        stream = client.follow(JOB_ID)
        async for text in stream:
            assert text == "Hello"
            break
        assert [text async for text in stream] == [" ", "world"]
        await asyncio.sleep(0.01)
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_cancelling_the_reader_is_not_swallowed(ready: FakeService) -> None:
    async with made(ready) as client:
        waiting = asyncio.create_task(client.wait(JOB_ID, timeout_s=None))
        ready.on("GET /v1/jobs/{id}", answer(job("running")))
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_hundreds_of_streams_share_one_client(ready: FakeService) -> None:
    count = 300
    arrived = asyncio.Event()

    async with made(ready) as client:
        first = 0

        async def read() -> str:
            nonlocal first
            stream = client.follow(JOB_ID)
            async for _ in stream:
                # nobody goes on before everybody has a connection of their own
                first += stream.text == "Hello"
                if first >= count:
                    arrived.set()
                await arrived.wait()
            return stream.text

        texts = await asyncio.wait_for(asyncio.gather(*(read() for _ in range(count))), 100)
    assert texts == ["Hello world"] * count


async def test_the_blocking_client_works_inside_a_running_loop(ready: FakeService) -> None:
    with Client(ready.url, "oq_test", model="openai/gpt-4o-mini") as client:
        assert "".join(client.stream("Hi")) == "Hello world"
        assert client.submit("Hi").result().text == "Hello world"


def test_threads_may_share_the_blocking_client(ready: FakeService) -> None:
    with Client(ready.url, "oq_test") as client, ThreadPoolExecutor(8) as pool:
        reads = [pool.submit("".join, client.follow(JOB_ID)) for _ in range(40)]
        assert {read.result() for read in reads} == {"Hello world"}


async def test_a_failed_stream_leaves_no_task(ready: FakeService) -> None:
    ready.log([("queued", {}), ("failed", {"status": "failed"})])
    ready.on("GET /v1/jobs/{id}", answer(job("failed")))
    async with made(ready) as client:
        with pytest.raises(JobFailed):
            async for _ in client.follow(JOB_ID):
                pass
    assert asyncio.all_tasks() == {asyncio.current_task()}


class Silent(httpx2.AsyncBaseTransport):
    """A service that says nothing for long."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await asyncio.sleep(30)
        raise httpx2.ConnectError("it never answers", request=request)


def asked(client: AsyncClient) -> Awaitable[object]:
    return client.get(JOB_ID)


def followed(client: AsyncClient) -> Awaitable[object]:
    return anext(aiter(client.follow(JOB_ID)))


@pytest.mark.parametrize("waits", [asked, followed])
async def test_a_cell_that_awaits_in_a_notebook_hears_of_an_interrupt_while_nothing_comes(
    monkeypatch: pytest.MonkeyPatch, waits: Callable[[AsyncClient], Awaitable[object]]
) -> None:
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with AsyncClient("http://127.0.0.1:1", "oq_test", transport=Silent()) as client:
        cell = asyncio.ensure_future(waits(client))
        Timer(0.3, loop.call_soon, [cell.cancel]).start()  # as ipykernel does: the loop sleeps on
        with pytest.raises(asyncio.CancelledError):
            await cell
    assert loop.time() - began < 10
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}, "nothing ticks behind it"
