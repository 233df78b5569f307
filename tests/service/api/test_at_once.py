"""Frames that a reader takes at once are written from the subscriber's own read; all others by the pump, each once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from onceq_service.api.http.connection import EXTENSION
from onceq_service.api.readers import Readers
from onceq_service.api.streams.events import KEEP_ALIVE, SEND_TIMEOUT_S, Stream
from onceq_service.store.events import Mailbox, Take
from onceq_service.store.jobs import Jobs

KEEP_ALIVE_S = 60.0
JOB = "job_1"
Script = Callable[[Take], Awaitable[list[bytes]]]


def frame(seq: int, name: str = "delta") -> bytes:
    return b'id: %d\nevent: %b\ndata: {"seq":%d}\n\n' % (seq, name.encode(), seq)


class Reader:
    """A client's connection as uvicorn hands it over."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.flow = SimpleNamespace(write_paused=False)
        self.on_end: Callable[[], object] | None = None
        self.ending = False
        self.fails = self.waits = False

        self.is_cut = False

    def cut(self) -> None:
        self.is_cut = True
        self.leave()

    def leave(self) -> None:
        self.ending = True
        if self.on_end is not None:
            self.on_end()

    async def send(self, message: Any) -> None:
        if self.flow.write_paused and not self.ending:
            await asyncio.Event().wait()
        if self.fails:
            raise OSError("gone")
        if self.waits:
            await asyncio.sleep(0)
        if message.get("body") and not self.ending:
            self.got.append(message["body"])


async def streamed(reader: Reader, script: Script, readers: Readers | None = None) -> None:
    """Runs a stream whose log is what the script gives the pump."""

    async def follow(after: int, take: Take) -> AsyncGenerator[bytes]:
        assert after == 0
        for chunk in await script(take):
            yield chunk

    scope: dict[str, Any] = {"extensions": {EXTENSION: reader}}
    await Stream(follow, 0, scope, reader.send, "key", JOB).run(Readers() if readers is None else readers, KEEP_ALIVE_S)


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


async def for_ever(_: Take) -> list[bytes]:
    """A log that has nothing to say."""
    await asyncio.Event().wait()
    return []


async def begun(reader: Reader, script: Script, readers: Readers) -> asyncio.Task[None]:
    task = asyncio.create_task(streamed(reader, script, readers))
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(readers) == 1
    return task


async def test_a_stream_ends_when_its_client_leaves_and_its_task_is_not_cancelled_for_it() -> None:
    reader, readers = Reader(), Readers()
    task = await begun(reader, for_ever, readers)
    reader.leave()
    reader.leave()  # the server stops, and the connection breaks before anybody has seen to it
    async with asyncio.timeout(20):
        await task
    assert (len(readers), task.cancelled(), task.cancelling()) == (0, False, 0)


async def test_a_client_that_left_before_its_stream_began_is_not_waited_for() -> None:
    reader = Reader()
    reader.leave()
    async with asyncio.timeout(20):
        await streamed(reader, for_ever)


async def test_a_stream_that_is_cancelled_by_its_server_says_so() -> None:
    reader, readers = Reader(), Readers()
    task = await begun(reader, for_ever, readers)
    reader.leave()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_stream_is_one_task() -> None:
    tasks = [await begun(Reader(), for_ever, Readers()) for _ in range(10)]
    assert len(asyncio.all_tasks()) == 11
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_quiet_stream_is_kept_alive_and_one_that_takes_nothing_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    reader, readers = Reader(), Readers()
    task = await begun(reader, for_ever, readers)
    for later, said in ((59.0, 0), (1.0, 1), (59.0, 1), (1.0, 2)):
        now += later
        readers.tend()
        assert reader.got == [KEEP_ALIVE] * said
    reader.flow.write_paused = True
    for later, cut in ((60.0, False), (29.0, False), (1.0, True)):
        now += later
        readers.tend()
        assert reader.is_cut is cut
    await task


async def test_a_reader_that_keeps_its_pump_waiting_is_told_of_and_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    reader, readers, told = Reader(), Readers(), list[tuple[str, float]]()

    async def stuck(job_id: str, blocked_s: float) -> None:
        told.append((job_id, blocked_s))

    async def script(_: Take) -> list[bytes]:
        reader.flow.write_paused = True
        return [frame(1)]

    task = await begun(reader, script, readers)
    jobs = cast("Jobs", SimpleNamespace(stuck=stuck))
    for later in (0.5, 0.5, 0.5):
        now += later
        await readers.report(jobs)
    assert told == [(JOB, 1.0)]
    now += SEND_TIMEOUT_S - 2.0
    readers.tend()
    assert not reader.is_cut
    now += 0.5
    readers.tend()
    assert reader.is_cut
    await task
    assert reader.got == []


def test_silence_is_looked_into_ever_more_rarely_until_something_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)

    async def looks(mailbox: Mailbox, seconds: int) -> list[int]:
        nonlocal now
        found: list[int] = []
        task = await waiting(mailbox)
        for second in range(1, seconds + 1):
            now += 1.0
            mailbox.tick(now)
            await asyncio.sleep(0)
            if task.done():
                found.append(second)
                mailbox.check_log = False
                task = await waiting(mailbox)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return found

    async def silence() -> None:
        mailbox = box([])
        assert await looks(mailbox, 63) == [1, 3, 7, 15, 31, 47, 63]
        task = await waiting(mailbox)
        mailbox.put(1, frame(1))
        mailbox.tick(now)
        assert not task.done(), "what was heard was taken at once: there is nothing to look into"
        task.cancel()
        assert await looks(mailbox, 3) == [1, 3]

    asyncio.run(silence())
