"""Reads that are handed over from the socket's own callback: nothing is lost, doubled or out of order, and none of the
ways in which an answer may end is missed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress

import pytest

from onceq_service.providers import Clocks, Provider, ProviderError, open_providers
from onceq_service.providers.base import CallStream, Delta
from onceq_service.settings import ProviderConfig
from tests.service.providers.kit import Clock, spec_for
from tests.service.providers.raw_server import sse
from tests.waiting import until

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
HEAD_OF_CHUNKS = HEAD[:-2] + b"transfer-encoding: chunked\r\n\r\n"
STOP = sse({"choices": [{"finish_reason": "stop"}]}, "[DONE]")


def text(said: str) -> bytes:
    return sse({"choices": [{"delta": {"content": said}}]})


@asynccontextmanager
async def paced(
    pieces: Sequence[bytes | asyncio.Event], head: bytes = HEAD, taken: asyncio.Event | None = None
) -> AsyncGenerator[Provider]:
    """A provider that sends each piece as a read of its own, or waits for an event; then it ends the connection.

    `taken` is set when all of it is on the client's side, which ends the connection too once it has met the end.
    """
    closing, ended = asyncio.Event(), taken or asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in (head, *pieces):
            if isinstance(piece, asyncio.Event):
                await piece.wait()
            elif not closing.is_set():
                writer.write(piece)
                await asyncio.sleep(0.03)
        with suppress(OSError):  # the client may have left before
            writer.write_eof()
            await reader.read()
        writer.close()
        ended.set()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    config = ProviderConfig(kind="openai", base_url=url, key_env="KEY")
    provider = open_providers({"openai": config}, {"KEY": "sk"})["openai"]
    yield provider
    closing.set()
    for piece in pieces:
        if isinstance(piece, asyncio.Event):
            piece.set()
    await ended.wait()
    await provider.close()
    server.close()


class Taker:
    """Has room for so many batches."""

    def __init__(self, room: int = 1_000) -> None:
        self.batches: list[str] = []
        self.room = room

    def __call__(self, deltas: list[Delta]) -> bool:
        self.batches.append("".join(d.text for d in deltas))
        return len(self.batches) < self.room

    async def has(self, count: int) -> None:
        """Returns when so many batches were handed over."""

        async def came() -> bool:
            return len(self.batches) >= count

        await until(came, f"batch {count}")


async def iterated(stream: CallStream, texts: list[str] | None = None) -> list[str]:
    """The text of each batch; added to `texts` as far as it came."""
    texts = [] if texts is None else texts
    async for batch in stream:
        texts.append("".join(d.text for d in batch))
    return texts


async def test_what_comes_while_the_reader_waits_wakes_nobody() -> None:
    taker = Taker()
    pieces = [text("a"), text("b") + text("c"), text("d"), STOP]
    async with paced(pieces) as provider, provider.call(spec_for("openai")) as stream:
        stream.hand_to(taker)
        rest = await iterated(stream)
        assert stream.finish_reason == "stop"
    assert taker.batches == ["a", "bc", "d"]
    assert "".join(rest) == ""


def chunks(*texts: str) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in map(text, texts))


async def test_the_chunks_of_one_read_are_handed_over_together_before_what_breaks_in_it() -> None:
    taker = Taker()
    rest: list[str] = []
    pieces = [chunks("a"), chunks("b", "c"), chunks("d", "e") + b"no chunk\r\n"]
    async with paced(pieces, HEAD_OF_CHUNKS) as provider, provider.call(spec_for("openai")) as stream:
        stream.hand_to(taker)
        with pytest.raises(ProviderError) as caught:
            await iterated(stream, rest)
    assert caught.value.code == "stream_broken"
    assert taker.batches + rest == ["a", "bc", "de"]


async def test_text_that_comes_with_the_end_is_in_the_iteration() -> None:
    taker = Taker()
    async with paced([text("a"), text("b") + STOP]) as provider, provider.call(spec_for("openai")) as stream:
        stream.hand_to(taker)
        assert await iterated(stream) == ["b"]
    assert taker.batches == ["a"]


async def test_without_room_the_reader_is_called_and_nothing_is_handed_over_until_it_comes_back() -> None:
    taker = Taker(room=2)
    pieces, taken = [text("a"), text("b"), text("c"), text("d"), STOP], asyncio.Event()
    async with paced(pieces, taken=taken) as provider, provider.call(spec_for("openai")) as stream:
        stream.hand_to(taker)
        assert await anext(aiter(stream)) == []
        await taken.wait()
        assert taker.batches == ["a", "b"]
        assert "".join(await iterated(stream)) == "cd"


@pytest.mark.parametrize(
    ("fault", "code"),
    [(b"", "stream_ended_early"), (sse("{"), "stream_garbage"), (text("!") + sse("{"), "stream_garbage")],
)
async def test_a_fault_is_raised_behind_the_text_that_came_before_it(fault: bytes, code: str) -> None:
    taker = Taker()
    rest: list[str] = []
    async with paced([text("a"), text("b"), fault]) as provider, provider.call(spec_for("openai")) as stream:
        stream.hand_to(taker)
        with pytest.raises(ProviderError) as caught:
            await iterated(stream, rest)
    assert caught.value.code == code
    assert "".join(taker.batches + rest) == ("ab!" if fault.startswith(text("!")) else "ab")


async def test_each_read_moves_the_clock_and_silence_after_the_last_is_a_stall(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taker, clock = Taker(), Clock(monkeypatch)
    a, b, c, d, never = [asyncio.Event() for _ in range(5)]
    pieces = [a, text("a"), b, text("b"), c, text("c"), d, text("d"), never]
    clocks = Clocks(first_byte_s=100_000, between_bytes_s=800)  # no timer of the first byte may serve for the others
    async with paced(pieces) as provider, provider.call(spec_for("openai", clocks=clocks)) as stream:
        stream.hand_to(taker)
        reading = asyncio.create_task(iterated(stream))
        for count, may_go in enumerate((a, b, c, d), 1):
            may_go.set()
            await taker.has(count)
            await clock.put_on(500)
        assert not reading.done()
        await clock.put_on(400)
        assert reading.done()
        with pytest.raises(ProviderError) as caught:
            await reading
    assert (caught.value.code, taker.batches) == ("provider_stalled", ["a", "b", "c", "d"])


async def test_a_defect_of_who_takes_is_raised_where_the_answer_is_read_and_not_called_the_providers() -> None:
    def broken(_: list[Delta]) -> bool:
        raise KeyError("ours")

    async with paced([text("a"), text("b"), STOP]) as provider, provider.call(spec_for("openai")) as stream:
        stream.hand_to(broken)
        with pytest.raises(KeyError):
            await iterated(stream)
