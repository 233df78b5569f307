"""The clients against the real service: what the scripted one can't prove."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

import onceq
from onceq_service.embedded.ports import claim_port
from tests.sdk.twins import twin
from tests.stack import API, Process, Stack, start, url_printed_by

MODEL = "openai/gpt-4o-mini"


@pytest.fixture(params=["blocking", "awaiting"])
def connect(request: pytest.FixtureRequest) -> Generator[Callable[..., Any]]:
    """Makes either kind of client."""
    with asyncio.Runner() as runner:
        made: list[Any] = []

        def connected(base_url: str, api_key: str) -> Any:
            made.append(twin(request.param, runner, base_url=base_url, api_key=api_key, model=MODEL))
            return made[-1]

        yield connected
        for client in made:
            client.close()


@pytest.fixture
def port() -> Generator[int]:
    """A port that nobody else is given by chance, not even while the API that listens on it is dead."""
    claimed = claim_port("127.0.0.1", 0, "API", "--port")
    yield claimed.number
    claimed.release()


def an_api(stack: Stack, port: int, folder: Path, name: str) -> Process:
    """One more API process on the stack's queue, which a test may kill."""
    return start([sys.executable, "-c", API], stack.env | {"ONCEQ_PORT": str(port)}, folder / f"{name}.log")


def test_a_killed_api_costs_a_stream_a_pause_and_nothing_else(
    stack: Stack, connect: Callable[..., Any], tmp_path: Path, port: int
) -> None:
    processes = [an_api(stack, port, tmp_path, "first")]
    try:
        client = connect(url_printed_by(processes[0]), stack.api_key)
        stream = client.stream("A long one. [[sim tokens=300 tps=40 ttft_ms=10]]", fresh=True)
        pieces: list[str] = []
        for piece in stream:
            pieces.append(piece)
            if len(pieces) == 5:
                processes[0].stop(signal.SIGKILL)
                reborn = threading.Timer(0.5, lambda: processes.append(an_api(stack, port, tmp_path, "second")))
                reborn.start()
        assert len(processes) == 2, "the stream ended before the API came back"
        assert "".join(pieces) == stream.text == stream.job.text
        assert stream.job.calls == 1
        assert len(stack.meter(stream.job_id)) == 1
    finally:
        for process in processes:
            process.stop()


def test_every_way_to_the_answer_gives_the_same_text(stack: Stack, connect: Callable[..., Any]) -> None:
    client = connect(stack.url, stack.api_key)
    handle = client.submit("Which way? [[sim tokens=40 tps=200 ttft_ms=10]]", fresh=True)
    streamed = "".join(handle.stream())
    told = "".join(event.data.text for event in handle.events() if event.name == "delta")
    assert streamed == told == handle.result().text == client.get(handle.id).text
    assert list(client.follow(handle.id, after=handle.stream().position)) != []


def test_a_finished_log_is_read_once_and_then_is_at_its_end(stack: Stack, connect: Callable[..., Any]) -> None:
    client = connect(stack.url, stack.api_key)
    stream = client.stream("To the end. [[sim tokens=5 tps=0 ttft_ms=0]]")
    text = "".join(stream)
    behind = client.follow(stream.job_id, after=stream.position)
    assert (list(behind), behind.job.text) == ([], text)
    with pytest.raises(onceq.BadRequestError) as ahead:
        list(client.follow(stream.job_id, after=stream.position + 1))
    assert ahead.value.code == "last_event_id_ahead"


def test_lists_stats_ledger_and_batch_are_what_the_service_says(stack: Stack, connect: Callable[..., Any]) -> None:
    client = connect(stack.url, stack.key(tenant="sdk-lists"))
    tag = "[[sim tokens=3 tps=0 ttft_ms=0]]"
    handles = client.submit_batch(
        [f"{i} {tag}" for i in range(5)], team="blue", fresh=True, user="ada", labels={"run": "7"}
    )
    done = [handle.result() for handle in handles]
    assert {job.team for job in done} == {"blue"}
    listed = list(client.list(team="blue", page_size=2))
    assert {job.id for job in listed[:5]} == {handle.id for handle in handles}
    assert [job.created_at for job in listed] == sorted((job.created_at for job in listed), reverse=True)
    first = min(job.created_at for job in done)
    found = {job.id for job in client.list(user="ada", label={"run": "7"}, band="standard", since=first)}
    assert {handle.id for handle in handles} <= found
    nothing = client.list_page(label={"run": "8"})
    assert (nothing.jobs, nothing.next_cursor, nothing.looked_at) == ([], None, len(listed))
    assert [row.outcome for row in client.ledger(handles[0].id)] == ["ok"]
    asked = client.request(handles[0].id)
    assert (asked.prompt, asked.team) == (f"0 {tag}", "blue")
    assert client.stats().last_24h_simulated.succeeded >= 5
    assert client.health().status == "ok"
    frame = client.jobs_frame(team="blue", status="succeeded")
    assert frame.loc[[job.id for job in done], "text"].tolist() == [job.text for job in done]
    booked = client.costs_frame(group_by=["team"], interval="total")
    assert booked["spent_nano_usd"].sum() == frame["cost_nano_usd"].sum() == sum(job.cost.nano_usd for job in listed)
    assert booked["simulated"].all()


def test_the_services_refusals_are_typed(stack: Stack, connect: Callable[..., Any]) -> None:
    client = connect(stack.url, stack.api_key)
    with pytest.raises(onceq.BadRequestError, match="unknown_model"):
        client.submit("Hi", model="nobody/knows")
    with pytest.raises(onceq.NotFoundError):
        client.get("job_" + "0" * 32)
    client.submit("One. [[sim tokens=1 tps=0]]", idempotency_key="sdk-key")
    with pytest.raises(onceq.IdempotencyKeyReused):
        client.submit("Two. [[sim tokens=1 tps=0]]", idempotency_key="sdk-key")
    with pytest.raises(onceq.AuthenticationError):
        connect(stack.url, "oq_nobody").stats()
    other = connect(stack.url, stack.key(tenant="sdk-other"))
    mine = client.submit("Mine. [[sim tokens=1 tps=0]]")
    with pytest.raises(onceq.NotFoundError):
        list(other.follow(mine.id))
