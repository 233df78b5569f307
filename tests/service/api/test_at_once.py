"""Frames that a reader takes at once are written from the subscriber's own read; all others by the pump, each once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from onceq_service.api.connection import EXTENSION
from onceq_service.api.events import Stream
from onceq_service.store.events import Mailbox, Take

Script = Callable[[Take], Awaitable[list[bytes]]]


def frame(seq: int, name: str = "delta") -> bytes:
    return b'id: %d\nevent: %b\ndata: {"seq":%d}\n\n' % (seq, name.encode(), seq)


class Reader:
    """A client's connection as uvicorn hands it over."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.flow = SimpleNamespace(write_paused=False)
        self.on_stop: Callable[[], object] | None = None
        self.fails = self.waits = False

    def cut(self) -> None:
        raise AssertionError("nobody is stuck")

    async def send(self, message: Any) -> None:
        if self.fails:
            raise OSError("gone")
        if self.waits:
            await asyncio.sleep(0)
        if message.get("body"):
            self.got.append(message["body"])

    async def receive(self) -> Any:
        await asyncio.Event().wait()


async def streamed(reader: Reader, script: Script) -> None:
    """Runs a stream whose log is what the script gives the pump."""

    async def follow(after: int, take: Take) -> AsyncGenerator[bytes]:
        assert after == 0
        for chunk in await script(take):
            yield chunk

    scope = {"extensions": {EXTENSION: reader}}
    await Stream(follow, 0, scope, reader.receive, reader.send, 60.0).run()


async def test_a_reader_that_keeps_up_is_written_to_at_once() -> None:
    reader = Reader()

    async def script(take: Take) -> list[bytes]:
        assert take(1, frame(1))
        assert reader.got == [frame(1)]
        return [frame(2)]

    await streamed(reader, script)
    assert reader.got == [frame(1), frame(2)]


@pytest.mark.parametrize("why", ["paused", "waits", "fails"])
async def test_a_frame_that_can_not_be_written_at_once_is_left_to_the_pump(why: str) -> None:
    reader = Reader()

    async def script(take: Take) -> list[bytes]:
        reader.flow.write_paused = why == "paused"
        reader.waits, reader.fails = why == "waits", why == "fails"
        assert not take(1, frame(1))
        assert reader.got == []
        reader.flow.write_paused = reader.waits = reader.fails = False
        return [frame(1)]

    await streamed(reader, script)
    assert reader.got == [frame(1)]


def box(taken: list[int], *, takes: bool = True) -> Mailbox:
    def take(seq: int, _: bytes) -> bool:
        if takes:
            taken.append(seq)
        return takes

    return Mailbox(0, take)


async def waiting(mailbox: Mailbox) -> asyncio.Task[None]:
    task = asyncio.create_task(mailbox.wait())
    await asyncio.sleep(0)
    return task


async def test_a_frame_is_taken_only_from_a_mailbox_whose_reader_waits_and_lacks_nothing() -> None:
    taken: list[int] = []
    mailbox = box(taken)
    mailbox.put(1, frame(1))  # nobody waits: the reader may be in its log
    assert (taken, mailbox.frames) == ([], [(1, frame(1))])
    mailbox = box(taken)
    task = await waiting(mailbox)
    mailbox.put(1, frame(1))
    mailbox.put(3, frame(3))  # 2 is missing
    mailbox.put(2, frame(2))  # what is behind a gap is for the reader to sort
    await task
    assert (taken, mailbox.after, mailbox.frames) == ([1], 1, [(3, frame(3)), (2, frame(2))])


async def test_the_terminal_frame_taken_at_once_ends_the_waiting() -> None:
    taken: list[int] = []
    mailbox = box(taken)
    task = await waiting(mailbox)
    mailbox.put(1, frame(1, "succeeded"))
    await task
    assert (taken, mailbox.over, mailbox.frames) == ([1], True, [])


async def test_a_frame_that_was_not_taken_wakes_the_reader() -> None:
    mailbox = box([], takes=False)
    task = await waiting(mailbox)
    mailbox.put(1, frame(1))
    await task
    assert (mailbox.after, mailbox.frames) == (0, [(1, frame(1))])
