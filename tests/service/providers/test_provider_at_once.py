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
from tests.service.providers.kit import spec_for
from tests.service.providers.raw_server import sse

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
HEAD_OF_CHUNKS = HEAD[:-2] + b"transfer-encoding: chunked\r\n\r\n"
STOP = sse({"choices": [{"finish_reason": "stop"}]}, "[DONE]")


def text(said: str) -> bytes:
    return sse({"choices": [{"delta": {"content": said}}]})


@asynccontextmanager
async def paced(pieces: Sequence[bytes | float], head: bytes = HEAD) -> AsyncGenerator[Provider]:
    """A provider that sends each piece as a read of its own, or waits so many seconds; then it ends the connection."""

    closing, ended = asyncio.Event(), asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in (head, *pieces):
            if isinstance(piece, bytes):
                writer.write(piece)
            with suppress(TimeoutError):
                await asyncio.wait_for(closing.wait(), 0.03 if isinstance(piece, bytes) else piece)
        writer.close()
        ended.set()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    config = ProviderConfig(kind="openai", base_url=url, key_env="KEY")
    provider = open_providers({"openai": config}, {"KEY": "sk"})["openai"]
    yield provider
    closing.set()
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
    pieces = [text("a"), text("b"), text("c"), text("d"), STOP]
    async with paced(pieces) as provider, provider.call(spec_for("openai")) as stream:
        stream.hand_to(taker)
        assert await anext(aiter(stream)) == []
        await asyncio.sleep(0.3)
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


async def test_each_read_moves_the_clock_and_silence_after_the_last_is_a_stall() -> None:
    taker = Taker()
    pieces = [text("a"), 0.4, text("b"), 0.4, text("c"), 0.4, text("d"), 5.0]
    clocks = Clocks(first_byte_s=600, between_bytes_s=0.8)  # no timer of the first byte may serve for the others
    async with paced(pieces) as provider, provider.call(spec_for("openai", clocks=clocks)) as stream:
        stream.hand_to(taker)
        with pytest.raises(ProviderError) as caught:
            await iterated(stream)
    assert (caught.value.code, taker.batches) == ("provider_stalled", ["a", "b", "c", "d"])


async def test_a_defect_of_who_takes_is_raised_where_the_answer_is_read_and_not_called_the_providers() -> None:
    def broken(_: list[Delta]) -> bool:
        raise KeyError("ours")

    async with paced([text("a"), text("b"), STOP]) as provider, provider.call(spec_for("openai")) as stream:
        stream.hand_to(broken)
        with pytest.raises(KeyError):
            await iterated(stream)
