"""SSE as the network cuts it: any split of the bytes gives the same events."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onceq_service.providers import _sse
from onceq_service.providers._sse import SseSplitter
from onceq_service.providers._stream import GarbageError

STREAM = (
    ': a comment\n\nevent: a\ndata: {"text": "Grüße 🌍"}\n\nid: 7\ndata:no space\n\n'
    "data: one\ndata: two\n\n\n\nretry: 5\n\ndata\n\ndata: \n\ndata: last\n\n"
)
EVENTS = ['{"text": "Grüße 🌍"}'.encode(), b"no space", b"one\ntwo", b"last"]


def cut(data: bytes, at: list[int]) -> list[bytes]:
    marks = sorted({0, len(data), *(mark % (len(data) + 1) for mark in at)})
    return [data[start:end] for start, end in pairwise(marks)]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@given(at=st.lists(st.integers(0, 10_000), max_size=40))
def test_events_are_the_same_wherever_reads_end(line_end: str, at: list[int]) -> None:
    splitter = SseSplitter()
    data = STREAM.replace("\n", line_end).encode()
    events = [event for chunk in cut(data, at) for event in splitter.feed(chunk)]
    assert events + splitter.rest() == EVENTS


def test_events_are_the_same_when_each_is_a_read_of_its_own() -> None:
    splitter = SseSplitter()
    reads = [f"{event}\n\n".encode() for event in STREAM.split("\n\n")[:-1]]
    assert [event for read in reads for event in splitter.feed(read)] == EVENTS


def test_all_events_of_a_read_come_at_once() -> None:
    assert SseSplitter().feed(b"data: 1\n\ndata: 2\n\ndata: 3\n\ndata: 4") == [b"1", b"2", b"3"]


def test_an_event_without_its_empty_line_is_left_over() -> None:
    splitter = SseSplitter()
    assert splitter.feed(b"data: [DONE]\n") == []
    assert splitter.rest() == [b"[DONE]"]
    assert splitter.rest() == []


def test_an_event_of_megabytes_is_one_event() -> None:
    splitter = SseSplitter()
    huge = b"data: " + b"x" * 5_000_000 + b"\n\n"
    events = [event for start in range(0, len(huge), 65_536) for event in splitter.feed(huge[start : start + 65_536])]
    assert [len(event) for event in events] == [5_000_000]


def test_an_event_without_an_end_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sse, "MAX_EVENT_BYTES", 1000)
    splitter = SseSplitter()
    splitter.feed(b"data: " + b"x" * 990)
    with pytest.raises(GarbageError):
        splitter.feed(b"x" * 10)
