"""Server-sent events from bytes as the network cuts them, for one call. No I/O.

Rules: WHATWG HTML, "Parsing an event stream". Lines end in LF, CRLF or CR; an event ends with an empty line; `data`
lines of one event are joined by LF. Only `data` is kept: both providers repeat the event's name inside their JSON.
"""

from __future__ import annotations

from typing import Final, Protocol

import msgspec

from onceq_service.providers._stream import Answer, GarbageError
from onceq_service.providers.base import Delta

MAX_EVENT_BYTES: Final = 64 * 1024 * 1024
"""An event longer than this is no answer, and may not fill the worker's memory."""


class EventDecoder(Protocol):
    """What one provider's events mean. Fed one event at a time, in order."""

    answer: Answer

    def feed(self, data: bytes, out: list[Delta]) -> None:
        """Appends what the event adds; raises ProviderError, or msgspec.MsgspecError for garbage."""
        ...


class SseDecoder:
    """_stream.Decoder for a provider that speaks SSE."""

    def __init__(self, events: EventDecoder) -> None:
        self.answer = events.answer
        self._events = events
        self._splitter = SseSplitter()

    def feed(self, chunk: bytes, out: list[Delta]) -> None:
        """See _stream.Decoder."""
        self._take(self._splitter.feed(chunk), out)

    def end(self, out: list[Delta]) -> None:
        """See _stream.Decoder; an event without its empty line counts when it is whole."""
        self._take(self._splitter.rest(), out)

    def _take(self, events: list[bytes], out: list[Delta]) -> None:
        try:
            for data in events:
                self._events.feed(data, out)
        except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
            raise GarbageError("an event is not the JSON that it should be") from exc


class SseSplitter:
    """Feed it reads, get the data of each event that they complete."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._held_cr = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of all events that this read completes; raises GarbageError for one that never ends."""
        if self._held_cr or b"\r" in chunk:
            chunk = self._with_plain_ends(chunk)
        buffer = self._buffer
        if not buffer and chunk.startswith(b"data: ") and chunk.find(b"\n\n") == chunk.find(b"\n") == len(chunk) - 2:
            return [data] if (data := chunk[6:-2]) else []  # one whole event of one line: most reads are just that
        search_from = max(0, len(buffer) - 1)
        buffer += chunk
        end = buffer.rfind(b"\n\n", search_from)
        if end < 0:
            if len(buffer) > MAX_EVENT_BYTES:
                raise GarbageError(f"an event is longer than {MAX_EVENT_BYTES} bytes")
            return []
        blocks = bytes(buffer[:end])
        del buffer[: end + 2]
        return [data for block in blocks.split(b"\n\n") if (data := _data(block))]

    def rest(self) -> list[bytes]:
        """The event that the end of the stream left without its empty line: none, or one that may be cut."""
        data = _data(bytes(self._buffer).rstrip(b"\n"))
        self._buffer.clear()
        return [data] if data else []

    def _with_plain_ends(self, chunk: bytes) -> bytes:
        """A CR at the end of a read is held back: it may be the first half of a CRLF."""
        chunk = self._held_cr + chunk
        self._held_cr = b"\r" if chunk.endswith(b"\r") else b""
        if self._held_cr:
            chunk = chunk[:-1]
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _data(block: bytes) -> bytes:
    """The joined data lines of one event; empty for comments and for events without data."""
    if block.startswith(b"data: ") and b"\n" not in block:
        return block[6:]
    lines = [_value(line) for line in block.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines)


def _value(line: bytes) -> bytes:
    return line[6:] if line.startswith(b"data: ") else line[5:]
