"""The clients against the real service: what the scripted one can't prove."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

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


class Mortal:
    """One more API process on the stack's queue, which a test may kill, and which comes back."""

    def __init__(self, stack: Stack, port: int, folder: Path) -> None:
        self._env, self._folder = stack.env | {"ONCEQ_PORT": str(port)}, folder
        self.lives: list[Process] = []
        self.reborn = threading.Timer(0.5, self._live)
        self._live()
        self.url = url_printed_by(self.lives[0])

    def _live(self) -> None:
        self.lives.append(start([sys.executable, "-c", API], self._env, self._folder / f"api-{len(self.lives)}.log"))

    def die(self) -> None:
        self.lives[0].stop(signal.SIGKILL)
        self.reborn.start()


@contextmanager
def mortal_api(stack: Stack, port: int, folder: Path) -> Generator[Mortal]:
    """Until the block is left."""
    api = Mortal(stack, port, folder)
    try:
        yield api
    finally:
        if api.reborn.ident is not None:
            api.reborn.join()
        for process in api.lives:
            process.stop()


def test_a_killed_api_costs_a_stream_a_pause_and_nothing_else(
    stack: Stack, connect: Callable[..., Any], tmp_path: Path, port: int
) -> None:
    with mortal_api(stack, port, tmp_path) as api:
        client = connect(api.url, stack.api_key)
        stream = client.stream("A long one. [[sim tokens=300 tps=40 ttft_ms=10]]", fresh=True)
        pieces: list[str] = []
        for piece in stream:
            pieces.append(piece)
            if len(pieces) == 5:
                api.die()
        assert len(api.lives) == 2, "the stream ended before the API came back"
        assert "".join(pieces) == stream.text == stream.job.text
        assert stream.job.calls == 1
        assert len(stack.meter(stream.job_id)) == 1


def test_a_killed_api_costs_a_batchs_reader_a_pause_and_no_end(
    stack: Stack, connect: Callable[..., Any], tmp_path: Path, port: int
) -> None:
    with mortal_api(stack, port, tmp_path) as api:
        client = connect(api.url, stack.api_key)
        prompts = [f"{n} [[sim tokens=3 tps=0 ttft_ms={1500 if n > 1 else 0}]]" for n in range(5)]
        batch = f"nightly-{uuid4().hex}"
        handles = client.submit_batch(prompts, batch=batch, fresh=True)
        ends: list[onceq.StreamEvent] = []
        for end in client.follow_batch(batch):
            ends.append(end)
            if len(ends) == 1:
                api.die()
        assert len(api.lives) == 2, "the loop ended before the API came back"
        assert [end.seq for end in ends] == [1, 2, 3, 4, 5]
        told = {end.data.job: (end.name, end.data.output, end.data.cost) for end in ends}
        jobs = [handle.refresh() for handle in handles]
        assert told == {job.id: ("succeeded", job.output, job.cost) for job in jobs}
        assert list(client.follow_batch(batch, after=3)) == ends[3:]
        assert list(client.follow_batch(batch, after=5)) == []


def test_a_batch_is_cancelled_by_its_name_and_goes_on_with_what_is_posted_later(
    stack: Stack, connect: Callable[..., Any]
) -> None:
    client = connect(stack.url, stack.api_key)
    batch, later = f"held-{uuid4().hex}", datetime.now(UTC) + timedelta(hours=1)
    with pytest.raises(onceq.NotFoundError, match=batch):
        list(client.follow_batch(batch))
    with pytest.raises(onceq.NotFoundError, match=batch):
        client.cancel_batch(batch)
    client.submit_batch(["a", "b"], batch=batch, not_before=later, fresh=True)
    assert (client.cancel_batch(batch).cancelled, client.cancel_batch(batch).cancelled) == (2, 0)
    (found,) = client.submit_batch(["c [[sim tokens=3 tps=0 ttft_ms=0]]"], batch=batch, fresh=True)
    ends = list(client.follow_batch(batch))
    assert [(end.seq, end.name) for end in ends] == [(1, "cancelled"), (2, "cancelled"), (3, "succeeded")]
    assert ends[2].data.job == found.id


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
