"""Both clients' batches against the scripted service; test_against_service.py has the real one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import pytest

import onceq
from onceq._batch import BatchEnds
from onceq._config import Config
from onceq._drive import Driver
from onceq._http import Backoff
from onceq._submission import prepare_batch
from onceq.wire import MAX_BODY_BYTES
from tests.sdk.fake import FakeService, Log, accept_all, frames

POST, EVENTS = "POST /v1/jobs/batch", "GET /v1/events"
ENDS: Log = [("succeeded", {"job": f"job_{n}", "output": {"text": f"answer {n}"}}) for n in range(1, 6)]


@pytest.mark.parametrize("batch", [None, "nightly_2026-11-30"])
def test_each_post_of_a_batch_says_its_name_where_it_has_one(fake: FakeService, client: Any, batch: str | None) -> None:
    fake.on(POST, accept_all)
    client.submit_batch(["a"] * 1_001, batch=batch)
    assert [len(seen.json["items"]) for seen in fake.seen] == [1_000, 1]
    named = {} if batch is None else {"batch": batch}
    assert [{name: value for name, value in seen.json.items() if name != "items"} for seen in fake.seen] == [named] * 2


def test_no_post_of_a_named_batch_is_larger_than_the_service_takes() -> None:
    def posts(length: int, batch: str | None = None) -> list[int]:
        return [len(pack.body) for pack in prepare_batch(["a" * 4_000_000, "b" * length], "x/y", {}, batch)]

    room = MAX_BODY_BYTES - posts(1)[0]
    assert posts(1 + room) == [MAX_BODY_BYTES]
    assert len(posts(2 + room)) == 2
    assert len(posts(1 + room, "b")) == 2
    most = 1 + room - len('"batch":"b",')
    assert posts(most, "b") == [MAX_BODY_BYTES]


@pytest.mark.parametrize("batch", ["", "two words", "a\n", "a/../b", "x" * 65, 5, b"bytes", ["a"]], ids=repr)
def test_what_names_no_batch_is_refused_before_anything_is_sent(fake: FakeService, client: Any, batch: Any) -> None:
    for ask in (lambda: client.submit_batch(["a"], batch=batch), lambda: client.follow_batch(batch),
                lambda: client.cancel_batch(batch)):  # fmt: skip
        with pytest.raises(onceq.BadRequestError, match=r"batch is 1 to 64 letters, .*, not .*\. Nothing was sent"):
            ask()
    assert fake.seen == []


def test_ends_are_told_once_each_over_broken_connections_and_from_any_number(fake: FakeService, client: Any) -> None:
    whole = frames(ENDS)
    fake.log(ENDS, [len(b"".join(whole[:3])) + 9, 20], EVENTS)
    ends = list(client.follow_batch("b"))
    assert [(end.name, end.seq, end.data.job, end.data.output.text) for end in ends] == [
        ("succeeded", n, f"job_{n}", f"answer {n}") for n in range(1, 6)
    ]
    assert {seen.query["batch"] for seen in fake.seen} == {"b"}
    assert [seen.headers.get("last-event-id") for seen in fake.seen] == [None, "2", "2", "5"]
    assert list(client.follow_batch("b", after=3)) == ends[3:]


def read(respond: Callable[[str | None], httpx2.Response], after: int = 0) -> list[onceq.StreamEvent]:
    """The ends that a batch's reader makes of answers, each to the Last-Event-ID that it came with."""
    asked: list[httpx2.Request] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        assert len(asked) < 20, "it asks for ever"
        answered = respond(request.headers.get("last-event-id"))
        answered.request = request
        return answered

    driver = Driver(Config("http://onceq.test", "oq_test"), 5.0, Backoff(), httpx2.MockTransport(handle))
    try:
        return list(driver.read(BatchEnds("b", after, Backoff(max_retries=2, base_s=0.0))))
    finally:
        driver.close()


def stream_of(*numbers: int) -> httpx2.Response:
    """An answer with these ends that closes cleanly."""
    content = b"".join(frames(ENDS)[n] for n in numbers)
    return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=content)


def test_an_end_that_is_told_again_is_one_and_a_gap_is_asked_for() -> None:
    asked: list[str | None] = []
    answers = iter([stream_of(1, 1, 2), stream_of(4), stream_of(2, 3, 4), httpx2.Response(204)])

    def respond(last_event_id: str | None) -> httpx2.Response:
        asked.append(last_event_id)
        return next(answers)

    assert [end.seq for end in read(respond)] == [1, 2, 3, 4]
    assert asked == [None, "2", "2", "4"]


@pytest.mark.parametrize("always", [lambda: httpx2.Response(503), lambda: stream_of()], ids=["away", "empty"])
def test_a_reader_that_gives_up_says_how_to_carry_on(always: Callable[[], httpx2.Response]) -> None:
    with pytest.raises(onceq.StreamLost, match=r"client\.follow_batch\('b', after=4\) carries on") as lost:
        read(lambda _: always(), after=4)
    assert "Its jobs go on" in str(lost.value)
