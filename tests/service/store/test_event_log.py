"""Reading a log in the very moment in which it grows, when it is long, and when the subscription was cut.

Where silence would send a reader to the log anyway, QUIET_S is made an hour: what is missed then stays missed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, cast

import pytest

from onceq_service.embedded.redis_server import EmbeddedRedis
from onceq_service.store import Store, events, open_store
from onceq_service.store._pipe import Arg, Pipe, connect
from onceq_service.store.batches import Batches
from onceq_service.store.events import EventLog
from onceq_service.store.keys import Keys
from tests.service.store.driver import admission, claim_one, dispatch, names, success, text_frame
from tests.waiting import until


class SlowReader(Pipe):
    """Something happens after the log was read, before the next look."""

    def __init__(self, url: str, meanwhile: Callable[[], Awaitable[object]]) -> None:
        super().__init__(connect(url, connections=2))
        self._meanwhile: Callable[[], Awaitable[object]] | None = meanwhile

    async def command(self, *args: Arg) -> Any:
        reply = await super().command(*args)
        if args[0] == "XRANGE" and self._meanwhile is not None:
            meanwhile, self._meanwhile = self._meanwhile, None
            await meanwhile()
        return reply


async def test_a_job_that_ends_while_its_log_is_read_is_no_snapshot(store: Store, redis_server: EmbeddedRedis) -> None:
    made = await store.jobs.admit(admission())
    claim = await claim_one(store)
    sent = await dispatch(store, claim)
    last = text_frame(claim, sent.seq + 1, "hi").data
    pipe = SlowReader(redis_server.url, lambda: store.engine.finish(claim, success(sent.seq + 1, last)))
    subscriber = connect(redis_server.url, connections=2)
    log = EventLog(pipe, store.redis_keys, subscriber)
    try:
        data = b"".join([chunk async for chunk in log.follow(made.id, sent.seq)])
    finally:
        await log.stop()
        await pipe.close()
        await subscriber.aclose()
    frames = [frame + b"\n\n" for frame in data.split(b"\n\n") if frame]
    assert names(frames) == ["delta", "succeeded"]


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers that do not look at the log because they heard nothing."""
    monkeypatch.setattr(events, "QUIET_S", 3600.0)


@asynccontextmanager
async def following(log: EventLog, job_id: str) -> AsyncGenerator[Callable[[int], Awaitable[int]]]:
    """A reader from the beginning; what is given waits until it has that many frames, and says how many it has."""
    stream, seen = log.follow(job_id, 0), 0

    async def read_to(count: int) -> int:
        nonlocal seen
        async with asyncio.timeout(20):
            while seen < count:
                seen += (await anext(stream)).count(b"\n\n")
        return seen

    try:
        yield read_to
    finally:
        await stream.aclose()


@pytest.mark.usefixtures("trusting")
async def test_a_log_of_whole_pages_is_read_to_its_end_at_once(store: Store) -> None:
    """Two looks come for free, as the reader begins and as it is subscribed; so three pages, and one more."""
    await store.jobs.admit(admission())
    claim = await claim_one(store)
    sent = await dispatch(store, claim)
    total = 3 * events.PAGE + 1
    for first in range(sent.seq + 1, total + 1, 100):
        numbers = range(first, min(first + 100, total + 1))
        await store.engine.append([text_frame(claim, n, "x") for n in numbers])
    async with following(store.events, claim.id) as read_to:
        assert await read_to(total) == total


@pytest.mark.usefixtures("trusting")
async def test_what_was_published_while_the_subscription_was_cut_is_read_from_the_log(
    redis_server: EmbeddedRedis, queue: str
) -> None:
    other = Pipe(connect(redis_server.url, connections=1))
    try:
        async with open_store(f"{redis_server.url}?client_name={queue}", queue) as store:
            await store.jobs.admit(admission())
            claim = await claim_one(store)
            sent = await dispatch(store, claim)
            async with following(store.events, claim.id) as read_to:
                assert await read_to(sent.seq) == sent.seq
                mine = await until(lambda: subscriber(other, queue), "the reader to be subscribed")
                await store.engine.append([text_frame(claim, sent.seq + 1, "heard")])
                assert await read_to(sent.seq + 1) == sent.seq + 1, "what it looked for as it subscribed is behind it"
                assert await other.command("CLIENT", "KILL", "ID", mine) == 1
                await store.engine.append([text_frame(claim, sent.seq + 2, "missed")])
                assert await read_to(sent.seq + 2) == sent.seq + 2
    finally:
        await other.close()


PAUSES = 12
"""Each is twice the one before where nothing is heard or found: then the last of them would take a minute."""


@pytest.fixture
async def unheard(
    redis_server: EmbeddedRedis, queue: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[tuple[Pipe, EventLog]]:
    """Logs of the test's queue for readers whom no message reaches: silence is looked into, all in a hundredth of the
    time, and pauses grow without end."""
    pipe, nowhere = Pipe(connect(redis_server.url, connections=2)), connect("unix:///nowhere.sock", connections=1)
    log = EventLog(pipe, Keys(queue), nowhere)
    monkeypatch.setattr(events, "QUIET_S", events.QUIET_S / 50)
    monkeypatch.setattr(events, "DOUBLINGS", 64)
    monkeypatch.setattr(events, "TURNS", events.TURNS * 100)  # as many turns as before, but shorter ones
    await log.start()
    yield pipe, log
    await log.stop()
    await pipe.close()
    await nowhere.aclose()


async def test_a_log_that_grows_unheard_is_looked_into_as_often_as_at_first(
    store: Store, unheard: tuple[Pipe, EventLog]
) -> None:
    await store.jobs.admit(admission())
    claim = await claim_one(store)
    sent = await dispatch(store, claim)
    async with following(unheard[1], claim.id) as read_to:
        assert await read_to(sent.seq) == sent.seq
        for n in range(sent.seq + 1, sent.seq + PAUSES):
            await store.engine.append([text_frame(claim, n, "x")])
            assert await read_to(n) == n


async def test_a_batch_whose_jobs_end_unheard_is_looked_into_as_often_as_at_first(
    store: Store, unheard: tuple[Pipe, EventLog]
) -> None:
    pipe, log = unheard
    for _ in range(PAUSES):
        await store.jobs.admit(admission(batch="b"))
    ends = Batches(pipe, store.redis_keys, log).follow("t", "b", 0)
    async with aclosing(ends), asyncio.timeout(20):
        for n in range(1, PAUSES + 1):
            claim = await claim_one(store)
            sent = await dispatch(store, claim)
            await store.engine.finish(claim, success(sent.seq + 1))
            assert (await anext(ends)).startswith(b"id: %d\n" % n)


async def subscriber(admin: Pipe, name: str) -> str | None:
    """The id of the connection of that name that listens to a channel; the others are of a stack that goes on."""
    listed = cast("bytes", await admin.command("CLIENT", "LIST", "TYPE", "pubsub")).decode().splitlines()
    return next((line.split()[0].removeprefix("id=") for line in listed if f" name={name} " in line), None)
