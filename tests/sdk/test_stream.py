"""The fold and the reader without a socket: whatever happens to the bytes, the text is the text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

import onceq
from onceq._config import Config
from onceq._drive import Driver
from onceq._follow import Gap, StreamEvent
from onceq._http import Backoff
from onceq._stream import Fold, Reader, Reset
from onceq.wire import Event
from tests.sdk.fake import JOB_ID, Log, deltas, frames, whole_log

AT_ONCE = Backoff(max_retries=12, base_s=0.0)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


class Broken(httpx2.SyncByteStream):
    """Bytes in given chunks; then the connection is lost, unless `whole`."""

    def __init__(self, chunks: Sequence[bytes], whole: bool) -> None:
        self._chunks = chunks
        self._whole = whole

    def __iter__(self) -> Iterator[bytes]:
        yield from self._chunks
        if not self._whole:
            raise httpx2.ReadError("cut")


class Service(httpx2.BaseTransport):
    """Serves a log from any position; `cuts` gives where each connection breaks, `size` how bytes are chopped."""

    def __init__(self, log: Log, cuts: Sequence[int] = (), size: int = 7, clean: bool = False) -> None:
        self.log = log
        self.cuts = list(cuts)
        self.size = size
        self.clean = clean
        self.positions: list[int] = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        after = int(request.headers.get("last-event-id", "0"))
        self.positions.append(after)
        data = b"".join(frames(self.log, after))
        cut = self.cuts.pop(0) if self.cuts else len(data)
        chunks = [data[:cut][i : i + self.size] for i in range(0, min(cut, len(data)), self.size)]
        headers = {"content-type": "text/event-stream; charset=utf-8"}
        whole = self.clean or cut >= len(data)
        return httpx2.Response(200, headers=headers, stream=Broken(chunks, whole), request=request)


def read_all(service: httpx2.BaseTransport, after: int = 0, backoff: Backoff = AT_ONCE) -> tuple[Fold, list[str]]:
    """Follow to the end; the fold, and every piece of text that was shown."""
    reader = Reader(JOB_ID, after, backoff)
    driver = Driver(Config("http://onceq.test", "oq_test"), 5.0, AT_ONCE, service)
    pieces = [piece for _, shown in driver.read(reader) for piece in shown]
    driver.close()
    return reader.fold, pieces


@given(
    texts=st.lists(TEXTS, max_size=8),
    cuts=st.lists(st.integers(0, 900), max_size=6),
    size=st.integers(1, 64),
    clean=st.booleans(),
)
def test_any_cut_and_any_chopping_give_the_same_text(texts: list[str], cuts: list[int], size: int, clean: bool) -> None:
    service = Service(whole_log(*texts), cuts, size, clean)
    fold, pieces = read_all(service)
    assert fold.text == "".join(pieces) == "".join(texts)
    assert fold.position == len(texts) + 3
    assert service.positions == sorted(service.positions)


@given(texts=st.lists(TEXTS, max_size=8), data=st.data())
def test_two_halves_read_apart_are_the_whole(texts: list[str], data: st.DataObject) -> None:
    log = whole_log(*texts)
    after = data.draw(st.integers(0, len(log) - 1))
    head = Fold()
    for name, payload, seq in ((n, p, i) for i, (n, p) in enumerate(log[:after], 1)):
        head.add(StreamEvent(name, seq, Event(job=JOB_ID, seq=seq, **payload)))
    tail, _ = read_all(Service(log), after)
    assert head.text + tail.text == "".join(texts)


ACTIONS = st.one_of(
    st.tuples(st.just("delta"), TEXTS),
    st.tuples(st.just("reasoning"), TEXTS),
    st.tuples(st.just("reset"), st.just("")),
    st.tuples(st.sampled_from(["retrying", "started", "something_new"]), st.just("")),
)


@given(st.lists(ACTIONS, max_size=12), st.lists(st.integers(0, 900), max_size=4))
def test_the_fold_equals_a_plain_reading_of_the_log(actions: list[tuple[str, str]], cuts: list[int]) -> None:
    log: list[tuple[str, dict[str, Any]]] = []
    text = reasoning = ""
    for name, piece in actions:
        log.append(("delta", {"kind": "reasoning", "text": piece}) if name == "reasoning" else (name, {"text": piece}))
        if name == "delta":
            log[-1][1]["kind"] = "text"
            text += piece
        elif name == "reasoning":
            reasoning += piece
        elif name == "reset":
            text = reasoning = ""
    fold, pieces = read_all(Service([*log, ("succeeded", {"status": "succeeded"})], cuts))
    assert (fold.output.text, fold.output.reasoning) == (text, reasoning)
    last_reset = max((i for i, p in enumerate(pieces) if isinstance(p, Reset)), default=-1)
    assert "".join(pieces[last_reset + 1 :]) == text


def test_tool_calls_are_put_together_by_their_index() -> None:
    parts = [
        {"index": 0, "id": "a", "name": "look", "text": '{"at"'},
        {"index": 1, "id": "b", "name": "go", "text": "{}"},
        {"index": 0, "text": ":1}"},
    ]
    log = [("delta", {"kind": "tool_call", **part}) for part in parts]
    end = ("succeeded", {"status": "succeeded", "finish_reason": "tool_calls"})
    output = read_all(Service([*log, end]))[0].output
    assert [(t.id, t.name, json.loads(t.arguments)) for t in output.tool_calls] == [
        ("a", "look", {"at": 1}),
        ("b", "go", {}),
    ]
    assert output.finish_reason == "tool_calls"


def test_a_snapshot_replaces_what_was_read() -> None:
    whole = {"text": "Hello", "reasoning": "hm", "tool_calls": [{"id": "a", "name": "go", "arguments": "{}"}]}
    fold, pieces = read_all(Service([*deltas("Hal"), ("snapshot", {"output": whole}), ("succeeded", {})]))
    assert fold.output.model_dump(exclude={"finish_reason"}) == whole
    assert [type(p) for p in pieces] == [str, Reset, str]
    assert pieces[2] == "Hello"


def test_a_snapshot_may_be_followed_by_a_much_later_number() -> None:
    fold = Fold(after=2)
    fold.add(StreamEvent("snapshot", 0, Event(job=JOB_ID)))
    end = StreamEvent("succeeded", 90, Event(job=JOB_ID, seq=90))
    assert fold.is_next(end)
    fold.add(end)
    assert (fold.ended, fold.position) == (True, 90)


def test_a_repeated_number_is_skipped_and_a_missing_one_is_a_gap() -> None:
    fold = Fold(after=3)
    delta = Event(job=JOB_ID, kind="text", text="x")
    assert not fold.is_next(StreamEvent("delta", 3, delta))
    assert fold.is_next(StreamEvent("delta", 4, delta))
    with pytest.raises(Gap):
        fold.is_next(StreamEvent("delta", 5, delta))


class Swallows(Service):
    """Leaves out one event on the first connection, as a lossy relay would."""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        answer = super().handle_request(request)
        if len(self.positions) > 1:
            return answer
        whole = frames(self.log)
        return httpx2.Response(200, headers=answer.headers, stream=Broken(whole[:3] + whole[4:], whole=True))


def test_a_gap_is_asked_for_again() -> None:
    service = Swallows(whole_log("a", "b", "c"))
    assert read_all(service)[1] == ["a", "b", "c"]
    assert service.positions == [0, 2]


@pytest.mark.parametrize(
    "frame", [b"id: 1\nevent: delta\ndata: {nonsense\n\n", b"event: delta\ndata: {}\n\n", b"id: x\ndata: {}\n\n"]
)
def test_a_damaged_frame_is_asked_for_again_a_bounded_number_of_times(frame: bytes) -> None:
    def always(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=frame, request=request)

    with pytest.raises(onceq.StreamLost, match=rf"{JOB_ID} after event 4.*after=4\)"):
        read_all(httpx2.MockTransport(always), after=4)


def test_attempts_are_counted_from_the_last_progress() -> None:
    log = whole_log(*"abcdefgh")
    one_event = [len(b"".join(frames(log, after)[:2])) for after in range(len(log))]
    fold, _ = read_all(Service(log, one_event), backoff=Backoff(max_retries=1, base_s=0.0))
    assert fold.text == "abcdefgh"


def test_frames_with_any_line_end_are_read() -> None:
    data = b"".join(frames(whole_log("a", "b"))).replace(b"\n", b"\r\n")

    def answer(request: httpx2.Request) -> httpx2.Response:
        chunks = [data[i : i + 1] for i in range(len(data))]
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=Broken(chunks, whole=True))

    assert read_all(httpx2.MockTransport(answer))[1] == ["a", "b"]


def test_a_reset_before_any_text_shows_nothing() -> None:
    fold, pieces = read_all(Service([("reset", {"reason": "provider_timeout"}), *deltas("Hi"), ("succeeded", {})]))
    assert (pieces, fold.resets) == (["Hi"], 1)
