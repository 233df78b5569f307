"""What a call has to say reaches the log once and in order, also when Redis was away or has lost some of it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Sequence
from typing import Any

import pytest
from redis import Redis

from onceq_service.embedded.redis_server import EmbeddedRedis
from onceq_service.providers.base import Delta
from onceq_service.store import Store, StoreUnavailable
from onceq_service.store.engine import Claim, Engine, Frame
from onceq_service.worker import relay as relay_module
from onceq_service.worker.call import LiveCall
from onceq_service.worker.claimed import ClaimedJob
from onceq_service.worker.relay import Relay
from tests.service.store.driver import admission, claim_one, dispatch, names, read_log, success
from tests.waiting import until, wait_until


def words(n: int, begin: int = 0) -> list[Delta]:
    return [Delta("text", f"{k} ") for k in range(begin, begin + n)]


async def begun(store: Store) -> tuple[Claim, LiveCall]:
    await store.jobs.admit(admission())
    claim = await claim_one(store)
    sent = await dispatch(store, claim)
    return claim, LiveCall(ClaimedJob(claim), sent.call, sent.seq)


async def flushed(call: LiveCall) -> None:
    async def clean() -> bool:
        return not call.dirty

    await until(clean, "everything to be in the log")


async def ended(store: Store, claim: Claim, call: LiveCall) -> list[bytes]:
    await store.engine.finish(claim, success(call.base + len(call.frames) + 1, text=call.output("stop").text))
    return await read_log(store, claim.id)


def text_of(frames: list[bytes]) -> str:
    return b"".join(f.split(b'"text":"')[1].split(b'"}')[0] for f in frames if b"event: delta" in f).decode()


class AwayAtFirst(Engine):
    """An engine before a Redis that is away for a while."""

    def __init__(self, engine: Engine) -> None:
        self._inner, self.away, self.asked = engine, True, 0

    async def append_now(self, frames: Sequence[Frame]) -> list[tuple[str, int]]:
        self.asked += 1
        if self.away:
            raise StoreUnavailable("Redis is away")
        return await self._inner.append_now(frames)


class HeldUp(Engine):
    """An engine whose flushes of one job wait until they are let go."""

    def __init__(self, engine: Engine, job_id: str) -> None:
        self._inner, self._job_id, self.go = engine, job_id, asyncio.Event()

    async def append_now(self, frames: Sequence[Frame]) -> list[tuple[str, int]]:
        if any(frame.id == self._job_id and b" 1 " in frame.data for frame in frames):
            await self.go.wait()
        return await self._inner.append_now(frames)


async def test_a_calls_first_words_wait_for_no_other_flush(store: Store) -> None:
    first, other = await begun(store), await begun(store)
    engine = HeldUp(store.engine, first[0].id)
    relay = Relay(engine, 3600.0)
    relay.add(first[1], words(1))
    await flushed(first[1])
    relay.add(first[1], [Delta("text", " 1 ")])  # its turn is hours away
    relay.add(other[1], words(1))
    await flushed(other[1])
    assert first[1].dirty
    relay = Relay(engine, 0.0)
    relay.add(first[1], words(1, 2))  # held up
    third = await begun(store)
    relay.add(third[1], words(1))
    await flushed(third[1])
    engine.go.set()
    await flushed(first[1])
    for claim, call in (first, other, third):
        await ended(store, claim, call)
    assert text_of(await read_log(store, first[0].id)) == "0  1 2 "


async def test_what_is_said_leaves_at_the_loop_s_next_turn(store: Store, redis_server: EmbeddedRedis) -> None:
    """While thousands of tokens come in a turn takes milliseconds. The loop stands still while the log is looked at."""
    claim, call = await begun(store)
    relay = Relay(store.engine, 0.0)
    relay.add(call, words(1, 0))
    await flushed(call)  # from here on Redis knows the script
    with Redis.from_url(redis_server.url) as other:  # pyright: ignore[reportUnknownMemberType]
        for n in range(1, 4):
            relay.add(call, words(1, n))
            await asyncio.sleep(0)
            length = call.base + n + 1
            wait_until(lambda: other.xlen(store.redis_keys("events", claim.id)) == length, "the words to be in the log")  # noqa: B023
            await flushed(call)
    await ended(store, claim, call)


class Unanswered(Engine):
    """An engine whose flushes wait for their answers."""

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[list[tuple[str, int]]]] = []

    def append_now(self, frames: Sequence[Frame]) -> Awaitable[list[tuple[str, int]]]:
        self.asked.append(asyncio.get_running_loop().create_future())
        return self.asked[-1]


async def test_a_flush_that_is_due_leaves_in_the_turn_of_the_answer_before(store: Store) -> None:
    """Each turn of a busy worker's loop reads all of its sockets, which takes milliseconds."""
    engine = Unanswered()
    claim, call = await begun(store)
    relay = Relay(engine, 0.0)
    call.add(words(1))
    relay.add(call, words(1, 1))
    await asyncio.sleep(0.01)
    relay.add(call, words(1, 2))
    await asyncio.sleep(0.01)
    assert len(engine.asked) == 1
    engine.asked[0].set_result([("ok", call.base + 1)])
    await asyncio.sleep(0)
    assert len(engine.asked) == 2
    engine.asked[1].set_result([("ok", call.base + 2)])
    await relay.settle(call)
    await store.engine.finish(claim, success(call.base + 1, *call.frames, text="0 1 2 "))


@pytest.mark.parametrize(
    ("calls", "busy", "share"),
    [
        (1, False, 1 / 16), (4, False, 4 / 16), (16, False, 1.0), (40, False, 1.0), (50, False, 0.75), (70, False, 0.5),
        (4, True, 4 / 16), (16, True, 0.35), (70, True, 0.35),
    ],
)  # fmt: skip
async def test_the_pause_between_flushes_grows_with_the_calls_that_shared_the_last_and_shrinks_when_they_say_much(
    store: Store, monkeypatch: pytest.MonkeyPatch, calls: int, busy: bool, share: float
) -> None:
    """Up to `flush_s`, here an hour, so that what the test itself takes is nothing."""
    monkeypatch.setattr(relay_module, "BUSY", -1.0 if busy else math.inf)
    pauses: list[float] = []
    loop = asyncio.get_running_loop()
    later = loop.call_later

    def spy(delay: float, *args: Any, **more: Any) -> asyncio.TimerHandle:
        pauses.append(delay)
        return later(delay, *args, **more)

    speaking = [await begun(store) for _ in range(calls)]
    relay = Relay(store.engine, 3600.0)
    for _, call in speaking:
        relay.add(call, words(1))
    for _, call in speaking:
        await flushed(call)
    monkeypatch.setattr(relay, "_last", -3600.0)  # nothing was sent lately
    for _, call in speaking:
        relay.add(call, words(1, 1))
    for _, call in speaking:
        await flushed(call)
    monkeypatch.setattr(loop, "call_later", spy)
    relay.add(speaking[0][1], words(1, 2))
    assert [round(pause / 3600, 2) for pause in pauses] == [round(share, 2)]
    for claim, call in speaking:
        await relay.settle(call)
        await store.engine.finish(claim, success(call.base + len(call.frames) + 1, text="0 1 "))


async def test_what_was_said_while_redis_was_away_is_written_afterwards(store: Store) -> None:
    claim, call = await begun(store)
    engine = AwayAtFirst(store.engine)
    relay = Relay(engine, 0.0)
    for n in range(5):
        relay.add(call, words(10, 10 * n))
        await asyncio.sleep(0.05)
    engine.away = False
    await flushed(call)
    assert text_of(await ended(store, claim, call)) == "".join(f"{n} " for n in range(50))


async def test_redis_being_away_costs_a_frame_a_try_and_not_one_a_token(store: Store) -> None:
    """The call goes on and is read; what waits for Redis grows by its text, not by an object a token."""
    claim, call = await begun(store)
    engine = AwayAtFirst(store.engine)
    relay = Relay(engine, 0.0)
    for n in range(2000):
        relay.add(call, words(1, n))
        if n % 100 == 0:
            await asyncio.sleep(0.02)
    tries = engine.asked
    engine.away = False
    await flushed(call)
    assert len(call.frames) <= tries + 2
    frames = await ended(store, claim, call)
    assert text_of(frames) == "".join(f"{n} " for n in range(2000))


async def test_a_worker_reads_no_further_when_too_much_waits_for_redis(store: Store) -> None:
    """The bound is in bytes, over all calls; with Redis back everything is written and they go on."""
    engine = AwayAtFirst(store.engine)
    relay = Relay(engine, 0.0, most_waiting=10_000)
    calls = [await begun(store) for _ in range(4)]
    said = 0

    async def answer(claim: Claim, call: LiveCall) -> None:
        nonlocal said
        for n in range(200):
            relay.add(call, [Delta("text", f"{n:03}-é ".ljust(99, "x"))])
            said += 100
            await relay.room()
            await asyncio.sleep(0)

    speaking = [asyncio.create_task(answer(*one)) for one in calls]

    async def full() -> bool:
        return said > 9_000

    await until(full, "the room to be used")
    await asyncio.sleep(0.5)
    assert said <= 10_000 + 4 * 100, "each call may have one read more in hand"
    engine.away = False
    async with asyncio.timeout(60):  # or for ever, where nothing is tried again
        await asyncio.gather(*speaking)
    for claim, call in calls:
        await flushed(call)
        text = text_of(await ended(store, claim, call))
        assert text == "".join(f"{n:03}-é ".ljust(99, "x") for n in range(200))


async def test_the_next_call_finds_room_when_all_that_filled_it_have_ended_while_redis_was_away(store: Store) -> None:
    engine = AwayAtFirst(store.engine)
    relay = Relay(engine, 0.0, most_waiting=1_000)
    engine.away = False
    claim, call = await begun(store)
    relay.add(call, words(1))
    await flushed(call)
    engine.away, tried = True, engine.asked
    assert not relay.add(call, [Delta("text", "x" * 2_000)])

    async def again() -> bool:
        return engine.asked > tried

    await until(again, "a flush that fails")
    await relay.settle(call)
    engine.away = False
    await store.engine.finish(claim, success(call.unsent()[0].seq, *(frame.data for frame in call.unsent())))
    claim, call = await begun(store)
    relay.add(call, words(1))
    async with asyncio.timeout(20):  # or for ever
        await relay.room()
    await flushed(call)
    await ended(store, claim, call)


async def test_what_a_restarted_redis_has_lost_is_sent_again_as_it_was(store: Store) -> None:
    """A Redis that came back as it was before the last events, with the fence of this worker still in it."""
    claim, call = await begun(store)
    relay = Relay(store.engine, 0.0)
    for n in range(4):
        relay.add(call, words(2, 2 * n))
        await flushed(call)
    written = call.sent
    assert written == 4
    await forget_last(store, claim.id, 3)
    relay.add(call, words(2, 8))
    try:
        await flushed(call)
    finally:
        await relay.settle(call)  # or a relay that never gets it there would try for ever
    frames = await ended(store, claim, call)
    assert text_of(frames) == "".join(f"{n} " for n in range(10))
    assert names(frames) == ["queued", "started", *["delta"] * 5, "succeeded"]


async def test_a_redis_that_has_lost_the_call_itself_loses_the_worker(store: Store) -> None:
    """Before the call's own record there is nothing that could be sent again: the job is somebody else's."""
    claim, call = await begun(store)
    relay = Relay(store.engine, 0.0)
    relay.add(call, words(1))
    await flushed(call)
    await forget_last(store, claim.id, 2)
    relay.add(call, words(1, 1))

    async def lost() -> bool:
        return call.job.reason == "lost"

    await until(lost, "the worker to give the job up")
    await store.engine.release(claim)
    await store.jobs.cancel(claim.id, "t")


async def test_a_settled_call_is_flushed_no_more(store: Store) -> None:
    """What it has not sent by then goes with the job's end, in one step."""
    claim, call = await begun(store)
    engine = AwayAtFirst(store.engine)
    relay = Relay(engine, 0.0)
    relay.add(call, words(3))
    await asyncio.sleep(0.05)
    await relay.settle(call)
    engine.away = False
    asked = engine.asked
    await asyncio.sleep(0.3)
    assert engine.asked == asked
    assert [f.seq for f in call.unsent()] == [3]
    await store.engine.finish(claim, success(3, call.unsent()[0].data, text="0 1 2 "))
    assert text_of(await read_log(store, claim.id)) == "0 1 2 "


async def forget_last(store: Store, job_id: str, n: int) -> None:
    """Takes the last events from a log, as a Redis that was rolled back would have it."""
    pipe = store._pipe  # pyright: ignore[reportPrivateUsage] - no part of the product may do this
    log = store.redis_keys("events", job_id)
    last = int(await pipe.command("HGET", store.redis_keys("job", job_id), "seq"))
    kept = await pipe.command("XRANGE", log, "-", f"{last - n}-0")
    await pipe.command("DEL", log)  # Redis 8 does not let a log forget that it had the later ones
    for at, fields in kept:
        await pipe.command("XADD", log, at, *fields)
    await pipe.command("HSET", store.redis_keys("job", job_id), "seq", last - n)


class Rests:
    """In place of the loop's wakeups: counts the rests."""

    def __init__(self) -> None:
        self.lasted: list[float] = []
        self.can_pause = True

    def pause(self, longest_s: float) -> bool:
        """A socket has something to say at once."""
        self.lasted.append(longest_s)
        return True


@pytest.mark.parametrize(
    ("calm", "busy", "able", "rests"),
    [(True, False, True, True), (False, False, True, False), (True, True, True, True), (True, False, False, False)],
)
async def test_a_worker_rests_between_flushes_however_busy_it_is_unless_something_is_to_be_done(
    store: Store, monkeypatch: pytest.MonkeyPatch, calm: bool, busy: bool, able: bool, rests: bool
) -> None:
    counted = Rests()
    counted.can_pause = able
    monkeypatch.setattr(relay_module, "wakeups", lambda: counted)
    monkeypatch.setattr(relay_module, "BUSY", -1.0 if busy else math.inf)
    speaking = [await begun(store) for _ in range(4)]
    relay = Relay(store.engine, 1.0, idle=lambda: calm)
    for n in range(3):
        for _, call in speaking:
            relay.add(call, words(1, n))
        for _, call in speaking:
            await flushed(call)
    assert bool(counted.lasted) is rests
    assert len(counted.lasted) <= 3 * relay_module.MOST_RESTS
    assert all(lasted <= relay_module.LONGEST_REST_S for lasted in counted.lasted)
    for claim, call in speaking:
        await relay.settle(call)
        assert text_of(await ended(store, claim, call)) == "0 1 2 "
