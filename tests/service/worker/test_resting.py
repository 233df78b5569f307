"""A worker rests while words gather in its sockets, and everything but those words still happens at once."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from onceq_service import wakeups as wakeups_module
from onceq_service.settings import Settings
from onceq_service.store import Store, open_store
from onceq_service.wakeups import Wakeups, wakeups
from onceq_service.worker import relay
from onceq_service.worker.broker import TASK, LeaseBroker
from onceq_service.worker.claimed import ClaimedJobs
from tests.service.store.driver import admission, claim_one
from tests.stack import Stack
from tests.waiting import until

STREAMS = 20
SLOW = "[[sim tokens=1000 tps=0.25 ttft_ms=10]]"
"""The rest follows the flush of its second word, which comes after four seconds."""
FAST = "[[sim tokens=100000 tps=20 ttft_ms=10]]"
HOUR_S = 3600.0


@pytest.fixture
def resting(stack: Stack, queue: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A worker that rests for an hour where the product's rests for 20 ms: the next flush does nothing for anybody."""
    monkeypatch.setattr(relay, "LONGEST_REST_S", HOUR_S)
    monkeypatch.setattr(relay, "MOST_RESTS", 1_000_000)
    return Settings(
        redis_url=stack.redis.url,
        queue=queue,
        worker_concurrency=STREAMS + 1,
        simulator_url=stack.simulator,
        flush_ms=HOUR_S * 1000,
    )


@asynccontextmanager
async def working(settings: Settings) -> AsyncGenerator[LeaseBroker]:
    """A worker in this event loop."""
    broker = LeaseBroker(settings)
    await broker.startup()
    task = broker.find_task(TASK)
    assert task is not None
    run, running = task.original_func, set[asyncio.Task[None]]()

    async def take() -> None:
        async for message in broker.listen():
            running.add(asyncio.create_task(run(*broker.formatter.loads(message).args)))

    taking = asyncio.create_task(take())
    try:
        yield broker
    finally:
        broker.claimed.stop_all("cancel")
        taking.cancel()
        await asyncio.gather(taking, *running, return_exceptions=True)
        await broker.shutdown()


@asynccontextmanager
async def alarm(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Callable[[], None]]:
    """What ends all rests, from another thread."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
    wakeups().watch(transport)

    def ring() -> None:
        monkeypatch.setattr(relay, "SHORTEST_REST_S", math.inf)
        theirs.send(b"!")

    yield ring
    transport.close()
    theirs.close()


class Seen(Wakeups):
    """The loop's, and whether it is just pausing."""

    pausing = False

    def pause(self, longest_s: float) -> bool:
        self.pausing = True
        ended = super().pause(longest_s)
        self.pausing = False
        return ended


async def speaks(store: Store, job: str) -> None:
    """Returns when its readers have its first words."""

    async def first() -> bool:
        found = await store.jobs.get(job, "t")
        return found is not None and found.first_token_at is not None

    await until(first, "the first words")


async def admitted(store: Store) -> str:
    return (await store.jobs.admit(admission(SLOW, model="openai/gpt-4o-mini", simulated=True))).id


async def new_job(store: Store, _: list[str]) -> None:
    await speaks(store, await admitted(store))


async def cancel(store: Store, streams: list[str]) -> None:
    await store.jobs.cancel(streams[0], "t")

    async def over() -> bool:
        job = await store.jobs.get(streams[0], "t")
        return job is not None and job.status == "cancelled"

    await until(over, "the end of what was cancelled")


@pytest.mark.parametrize("act", [new_job, cancel])
async def test_what_is_asked_of_a_worker_that_rests_happens_at_once(
    resting: Settings, monkeypatch: pytest.MonkeyPatch, act: Callable[[Store, list[str]], Awaitable[None]]
) -> None:
    """Its loop stands still, so all is asked from another thread."""

    async def rests() -> bool:
        return seen.pausing

    async def ask() -> None:
        async with open_store(resting.redis_url, resting.queue) as store:
            streams = [await admitted(store) for _ in range(STREAMS)]
            for job in streams:
                await speaks(store, job)
            await until(rests, "the worker to rest")
            await asyncio.sleep(1)  # in which the streams say five words
            await until(rests, "the worker to rest on")  # now and then it asks for work
            await act(store, streams)

    seen = wakeups_module.BY_LOOP[asyncio.get_running_loop()] = Seen()
    async with alarm(monkeypatch) as ring, working(resting):

        def outside() -> None:
            try:
                asyncio.run(ask())
            finally:
                ring()

        await asyncio.to_thread(outside)


class Awake(Wakeups):
    """The loop's, which count its pauses and make none."""

    pauses = 0

    def pause(self, longest_s: float) -> bool:
        self.pauses += 1
        return True


async def test_a_worker_that_has_not_asked_for_work_does_not_rest(
    resting: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis would have nothing to answer when a new job comes in, so no socket would wake the worker for it."""
    seen = wakeups_module.BY_LOOP[asyncio.get_running_loop()] = Awake()
    await store.jobs.admit(admission(FAST, model="openai/gpt-4o-mini", simulated=True))
    async with working(resting) as broker:
        asks, calm, may_ask, looked = broker.store.engine.wait_for_work, broker.claimed.all_idle, asyncio.Event(), 0

        async def ask(providers: Sequence[str], timeout_s: float) -> None:
            await may_ask.wait()
            await asks(providers, timeout_s)

        def look() -> bool:
            nonlocal looked
            looked += calm()
            return calm()

        async def looked_often() -> bool:
            return looked > STREAMS

        async def rests() -> bool:
            return seen.pauses > 0

        monkeypatch.setattr(broker.store.engine, "wait_for_work", ask)
        monkeypatch.setattr(broker.claimed, "all_idle", look)
        await until(looked_often, "a flush, and many occasions to rest after it")
        assert seen.pauses == 0
        may_ask.set()
        await until(rests, "the worker to rest")


async def test_a_worker_without_a_free_slot_rests(resting: Settings, store: Store) -> None:
    """It asks for no work, and nobody waits for it to."""
    seen = wakeups_module.BY_LOOP[asyncio.get_running_loop()] = Awake()

    async def rests() -> bool:
        return seen.pauses > 0

    await store.jobs.admit(admission(FAST, model="openai/gpt-4o-mini", simulated=True))
    async with working(resting.model_copy(update={"worker_concurrency": 1})):
        await until(rests, "the worker to rest")


async def test_a_job_is_calm_from_its_request_until_the_end_of_its_answer(store: Store) -> None:
    """A job that has something to do keeps the worker awake, and one that is gone does not."""
    claimed = ClaimedJobs(2)
    assert claimed.all_idle()
    await store.jobs.admit(admission())
    job = claimed.add(await claim_one(store))
    assert not claimed.all_idle()
    claimed.mark_idle(job)
    assert claimed.all_idle()
    claimed.mark_active(job)
    assert not claimed.all_idle()
    claimed.mark_idle(job)
    claimed.drop(job)
    assert claimed.all_idle()
    claimed.mark_idle(job)
    assert claimed.all_idle()
    await store.engine.release(job.claim)
    await store.jobs.cancel(job.claim.id, "t")
