"""Both clients against a real socket: a stream over any number of connections."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.responses import Response, StreamingResponse

import onceq
from tests.sdk.fake import JOB_ID, FakeService, Log, accepted, answer, deltas, frames, job, problem, whole_log

SUBMIT, GET, EVENTS = "POST /v1/jobs", "GET /v1/jobs/{id}", "GET /v1/jobs/{id}/events"
CANCEL = "POST /v1/jobs/{id}/cancel"


def test_a_stream_submits_and_yields_text(fake: FakeService, client: Any) -> None:
    fake.on(SUBMIT, accepted())
    fake.on(GET, answer(job("succeeded", "Hello world")))
    fake.log(whole_log("Hello", " ", "world"))
    stream = client.stream("Hi")
    assert (stream.job_id, stream.job, stream.text, fake.seen) == (None, None, "", [])
    assert list(stream) == ["Hello", " ", "world"]
    assert (stream.text, stream.job_id, stream.disposition) == ("Hello world", JOB_ID, "created")
    assert (stream.job.status, stream.position, stream.resets) == ("succeeded", 6, 0)
    assert stream.output.finish_reason == "stop"
    assert list(stream) == [], "what has been read is not read again"
    assert "Hello world" in stream._repr_html_()
    assert JOB_ID in repr(stream)


def test_the_result_of_a_stream_is_its_job_however_far_it_was_read(fake: FakeService, client: Any) -> None:
    fake.on(SUBMIT, accepted())
    fake.on(GET, answer(job("succeeded", "Hello world")))
    fake.log(whole_log("Hello", " ", "world"))
    stream = client.stream("Hi")
    assert next(iter(stream)) == "Hello"
    assert stream.result().text == stream.result().text == stream.text == "Hello world"
    assert client.stream("Hi").result().status == "succeeded"
    fake.on(GET, answer(job("failed")))
    with pytest.raises(onceq.JobFailed):
        client.stream("Hi").result()


def _open_end(fake: FakeService, log: Log) -> threading.Event:
    """Serves events and then nothing more; set when the reader has closed the connection."""
    gone = threading.Event()

    async def body() -> AsyncIterator[bytes]:
        try:
            for frame in frames(log):
                yield frame
            await asyncio.sleep(30)
        finally:
            gone.set()

    fake.on(EVENTS, lambda _: StreamingResponse(body(), media_type="text/event-stream"))
    return gone


def test_a_stream_that_is_closed_leaves_its_job_and_is_taken_up_again(fake: FakeService, client: Any) -> None:
    fake.on(SUBMIT, accepted())
    fake.on(GET, answer(job("succeeded", "Hello world")))
    gone = _open_end(fake, [("queued", {}), ("started", {"call": 1}), *deltas("Hello")])
    stream = client.stream("Hi")
    assert stream.id is None
    stream.close()
    loop = iter(stream)
    assert next(loop) == "Hello"
    stream.close()
    assert gone.wait(5)
    assert list(loop) == [], "who still holds the loop is not left waiting"
    assert not fake.to(CANCEL)
    fake.log(whole_log("Hello", " ", "world"))
    assert "".join(stream) == " world"
    assert (stream.id, stream.text) == (JOB_ID, "Hello world")


def test_a_block_closes_its_stream(fake: FakeService) -> None:
    fake.on(SUBMIT, accepted())
    gone = _open_end(fake, [("queued", {}), ("started", {"call": 1}), *deltas("Hello")])
    with onceq.Client(fake.url, "oq_test", model="a/b") as client:
        with client.stream("Hi") as stream:
            loop = iter(stream)
            assert next(loop) == "Hello"
        assert gone.wait(5)
        assert list(loop) == []


async def test_an_async_block_closes_its_stream(fake: FakeService) -> None:
    fake.on(SUBMIT, accepted())
    gone = _open_end(fake, [("queued", {}), ("started", {"call": 1}), *deltas("Hello")])
    async with onceq.AsyncClient(fake.url, "oq_test", model="a/b") as client:
        async with client.stream("Hi") as stream:
            loop = aiter(stream)
            assert await anext(loop) == "Hello"
        assert await asyncio.to_thread(gone.wait, 5)
        assert [piece async for piece in loop] == []


def test_a_stream_cancels_its_job(fake: FakeService, client: Any) -> None:
    fake.on(SUBMIT, accepted())
    fake.on(CANCEL, answer(job("cancelled")))
    _open_end(fake, [("queued", {}), ("started", {"call": 1}), *deltas("Hello")])
    stream = client.stream("Hi")
    with pytest.raises(onceq.BadRequestError, match=r"a stream that has begun, not (Async)?JobStream"):
        stream.cancel()
    assert fake.seen == []
    assert next(iter(stream)) == "Hello"
    assert stream.cancel().status == stream.job.status == "cancelled"
    followed = client.follow(JOB_ID)
    assert followed.id == JOB_ID
    assert followed.cancel().status == "cancelled"
    assert client.cancel(followed).status == "cancelled"


def test_a_cut_stream_is_taken_up_where_it_stopped(fake: FakeService, client: Any) -> None:
    fake.on(GET, answer(job("succeeded", "Hello world")))
    fake.log(whole_log("Hello", " ", "world"), cuts=[0, 150, 300, 100])
    stream = client.follow(JOB_ID)
    assert "".join(stream) == stream.text == "Hello world"
    positions = [int(seen.headers.get("last-event-id", 0)) for seen in fake.to(EVENTS)]
    assert positions == sorted(positions)
    assert len(positions) == 5


def test_a_service_that_restarts_is_waited_for(fake: FakeService, client: Any) -> None:
    fake.log(whole_log("Hello"))
    (events,) = fake.lines[EVENTS]
    fake.on(EVENTS, problem(503, "store_unavailable", "0"), Response("Bad gateway", 502), events)
    fake.on(GET, answer(job("succeeded", "Hello")))
    assert list(client.follow(JOB_ID)) == ["Hello"]


def test_leaving_a_loop_and_coming_back_carries_on(fake: FakeService, client: Any) -> None:
    fake.on(GET, answer(job("succeeded", "abcd")))
    fake.log(whole_log(*"abcd"))
    stream = client.follow(JOB_ID)
    seen: list[str] = []
    for piece in stream:
        seen.append(piece)
        if piece == "b":
            break
    assert stream.position == 4
    assert [*seen, *stream] == [*"abcd"]
    assert "".join(client.follow(JOB_ID, after=4)) == "cd"


def test_behind_the_end_there_is_nothing_and_the_job_is_known(fake: FakeService, client: Any) -> None:
    fake.on(GET, answer(job("succeeded", "Hello")))
    fake.log(whole_log("Hello"))
    stream = client.follow(JOB_ID, after=4)
    assert list(stream) == []
    assert stream.job.text == "Hello"


def test_a_reset_is_a_piece_of_its_own_and_the_text_is_right(fake: FakeService, client: Any) -> None:
    log: list[tuple[str, dict[str, Any]]] = [
        ("queued", {}),
        *deltas("Hal", "lo"),
        ("reset", {"reason": "stream_broken"}),
        *deltas("Hello", call=2),
    ]
    fake.log([*log, ("succeeded", {"status": "succeeded"})])
    fake.on(GET, answer(job("succeeded", "Hello")))
    stream = client.follow(JOB_ID)
    pieces = list(stream)
    assert [type(p) for p in pieces] == [str, str, onceq.Reset, str]
    assert pieces[2].reason == "stream_broken"
    assert "starts again" in pieces[2]
    assert (stream.text, stream.resets) == ("Hello", 1)
    assert "".join(pieces) != stream.text


@pytest.mark.parametrize(("log_gone_after", "pieces"), [(0, ["Hello"]), (2, ["He", "llo"])])
def test_a_snapshot_stands_for_the_log_that_is_gone(
    fake: FakeService, client: Any, log_gone_after: int, pieces: list[str]
) -> None:
    full: Log = [("started", {}), *deltas("He")]
    begin = full[:log_gone_after]
    fake.log([*begin, ("snapshot", {"output": {"text": "Hello"}}), ("succeeded", {"status": "succeeded"})])
    fake.on(GET, answer(job("succeeded", "Hello")))
    stream = client.follow(JOB_ID)
    assert list(stream) == pieces
    assert stream.text == "Hello"


def test_events_come_with_name_number_and_data(fake: FakeService, client: Any) -> None:
    fake.on(SUBMIT, accepted())
    fake.on(GET, answer(job("succeeded", "ab")))
    fake.log(whole_log("a", "b"))
    events = list(client.submit("Hi").events(after=1))
    assert [(e.name, e.seq) for e in events] == [("started", 2), ("delta", 3), ("delta", 4), ("succeeded", 5)]
    assert events[-1].data.usage.output_tokens == 2


def test_a_job_that_fails_raises_from_its_text_and_tells_its_events(fake: FakeService, client: Any) -> None:
    why = {"code": "provider_auth", "message": "The provider refused the key."}
    fake.log([("queued", {}), *deltas("He"), ("failed", {"status": "failed", "error": why})])
    fake.on(GET, answer(job("failed", "He", error=why)))
    stream = client.follow(JOB_ID)
    with pytest.raises(onceq.JobFailed, match="refused the key"):
        list(stream)
    assert stream.text == "He"
    last = list(client.follow(JOB_ID).events())[-1]
    assert (last.name, last.data.error.code) == ("failed", "provider_auth")


def test_what_no_retry_can_mend_is_raised_at_once(fake: FakeService, client: Any) -> None:
    fake.on(EVENTS, problem(400, "last_event_id_ahead"))
    with pytest.raises(onceq.BadRequestError):
        list(client.follow(JOB_ID, after=99))
    fake.on(EVENTS, Response("<html>", media_type="text/html"))
    with pytest.raises(onceq.APIError, match="check the base URL"):
        list(client.follow(JOB_ID))
    assert len(fake.seen) == 2
