"""A worker process from the outside (SIGTERM) and its broker from the inside: what it takes, and what it gives back."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

import pytest
from structlog.testing import capture_logs

from onceq import Client
from onceq_service.embedded.redis_server import EmbeddedRedis
from onceq_service.settings import Settings
from onceq_service.store import Filter, Store
from onceq_service.worker.broker import FULL_S, TASK, LeaseBroker
from onceq_service.worker.claimed import ClaimedJob
from onceq_service.worker.run import Runner
from tests.service.store.driver import admission
from tests.stack import Stack, running_stack
from tests.waiting import wait_until

SLOTS = 2
ALL = Filter()
SLOW = "[[sim tokens=240 tps=40 ttft_ms=10]]"
QUICK = "[[sim tokens=20 tps=40 ttft_ms=10]]"
ENDLESS = "[[sim tokens=4000 tps=40 ttft_ms=10]]"


@pytest.fixture
def settings(redis_server: EmbeddedRedis, queue: str) -> Settings:
    return Settings(
        redis_url=redis_server.url, queue=queue, worker_concurrency=SLOTS, simulator_url="http://127.0.0.1:1"
    )


@asynccontextmanager
async def opened(settings: Settings) -> AsyncGenerator[LeaseBroker]:
    broker = LeaseBroker(settings)
    await broker.startup()
    try:
        yield broker
    finally:
        await broker.shutdown()


async def states(store: Store) -> tuple[int, int]:
    """(queued, running)"""
    depth = await store.stats.depth("t")
    return depth.queued, depth.running


async def test_a_worker_claims_no_more_than_it_has_slots(store: Store, settings: Settings) -> None:
    for _ in range(SLOTS + 3):
        await store.jobs.admit(admission())
    async with opened(settings) as broker:
        listening = broker.listen()
        assert len(ids_in(broker, await anext(listening))) == SLOTS
        more = asyncio.create_task(anext(listening))
        await asyncio.sleep(1.5)  # more than one poll
        assert not more.done()
        assert await states(store) == (3, SLOTS)
        more.cancel()
        await asyncio.gather(more, return_exceptions=True)
        await hand_back(broker)
    await cancel_all(store)


async def test_a_full_worker_leaves_the_word_of_new_jobs_to_others(store: Store, settings: Settings) -> None:
    """One that is at rest would hear of the job a second later."""
    for _ in range(SLOTS):
        await store.jobs.admit(admission())
    async with opened(settings) as broker:
        listening = broker.listen()
        await anext(listening)
        await store._pipe.command("DEL", store.redis_keys("wake", "openai"))  # pyright: ignore[reportPrivateUsage]
        more = asyncio.create_task(anext(listening))
        await store.jobs.admit(admission())
        await asyncio.sleep(3 * FULL_S)
        assert await store._pipe.command("LLEN", store.redis_keys("wake", "openai")) == 1  # pyright: ignore[reportPrivateUsage]
        more.cancel()
        await asyncio.gather(more, return_exceptions=True)
        await hand_back(broker)
    await cancel_all(store)


async def test_the_jobs_of_a_claim_are_one_message_and_taskiq_keeps_all_of_them(
    store: Store, settings: Settings
) -> None:
    jobs = {(await store.jobs.admit(admission())).id for _ in range(2)}
    async with opened(settings) as broker:
        async with aclosing(broker.listen()) as listening:
            message = await anext(listening)
        assert set(ids_in(broker, message)) == jobs
        assert await states(store) == (0, 2)
        await hand_back(broker)
    await cancel_all(store)


async def test_a_job_that_breaks_our_code_leaves_the_others_of_its_message_alone(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        await store.jobs.admit(admission())
    async with opened(settings) as broker:
        first, second = ids_in(broker, await anext(broker.listen()))
        run: list[str] = []

        async def broken(_: Runner, job: ClaimedJob) -> None:
            run.append(job.claim.id)
            if job.claim.id == first:
                raise ZeroDivisionError

        with monkeypatch.context() as patched, capture_logs() as logged:
            patched.setattr(Runner, "run", broken)
            task = broker.find_task(TASK)
            assert task is not None
            await task.original_func(first, second)
        assert run == [first, second]
        assert [line["job"] for line in logged if line["event"] == "a job failed in our code"] == [first]
        await hand_back(broker)
    await cancel_all(store)


async def test_what_is_claimed_when_the_stop_comes_is_handed_back(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker is told to stop when Redis has given it two jobs, and it does not know it yet."""
    for _ in range(2):
        await store.jobs.admit(admission())
    async with opened(settings) as broker:
        claim = broker.store.engine.claim

        async def claim_and_stop(*given: Any, **named: Any) -> Any:
            claimed = await claim(*given, **named)
            assert await states(store) == (0, 2)
            listening.cancel()
            return claimed

        monkeypatch.setattr(broker.store.engine, "claim", claim_and_stop)
        listening = asyncio.create_task(anext(broker.listen()))
        await asyncio.gather(listening, return_exceptions=True)
        assert await states(store) == (2, 0)
        assert not broker.claimed.pairs()
    await cancel_all(store)


async def test_a_claim_that_is_cut_short_by_the_stop_is_handed_back(store: Store, settings: Settings) -> None:
    await store.jobs.admit(admission())
    async with opened(settings) as broker:
        listening = asyncio.create_task(anext(broker.listen()))
        for _ in range(2):  # it listens, then it asks; Redis has no time to answer
            await asyncio.sleep(0)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        assert await states(store) == (1, 0)
    await cancel_all(store)


async def test_a_stop_that_comes_together_with_redis_answer_ends_the_listening(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait for work answers instead of raising: the word to stop is lost on its way up, yet no job is claimed."""
    waiting = asyncio.Event()

    async def answered_anyway(*_: Any) -> None:
        waiting.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    async with opened(settings) as broker:
        monkeypatch.setattr(broker.store.engine, "wait_for_work", answered_anyway)
        listening = asyncio.create_task(anext(broker.listen()))
        await waiting.wait()
        await store.jobs.admit(admission())
        listening.cancel()
        async with asyncio.timeout(20):
            [outcome] = await asyncio.gather(listening, return_exceptions=True)
        assert isinstance(outcome, StopAsyncIteration)
        assert await states(store) == (1, 0)
    await cancel_all(store)


async def test_a_worker_that_is_told_to_stop_while_it_still_connects_stops(settings: Settings) -> None:
    for turns in range(20):
        async with asyncio.timeout(20), opened(settings):
            for _ in range(turns):
                await asyncio.sleep(0)


async def test_what_a_worker_has_when_it_begins_is_out_of_the_garbage_collectors_sight(settings: Settings) -> None:
    """Price tables and clients; else each full collection would stop all streams for as long again."""
    broker = LeaseBroker(settings)
    broker.is_worker_process = True
    frozen = gc.get_freeze_count()
    try:
        await broker.startup()
        assert gc.get_freeze_count() > frozen
    finally:
        gc.unfreeze()
        await broker.shutdown()


def ids_in(broker: LeaseBroker, message: bytes) -> list[str]:
    """The jobs of a message."""
    return broker.formatter.loads(message).args


async def hand_back(broker: LeaseBroker) -> None:
    """Releases all that the broker holds."""
    for job_id, _ in broker.claimed.pairs():
        job = broker.claimed.get(job_id)
        assert job is not None
        await broker.store.engine.release(job.claim)


async def cancel_all(store: Store) -> None:
    page = await store.jobs.list("t", ALL, cursor=None, limit=100)
    for job in page.jobs:
        await store.jobs.cancel(job.id, "t")


@pytest.fixture
def one(redis_server: EmbeddedRedis) -> Generator[Stack]:
    """One worker process with two slots."""
    with running_stack(redis_server, workers=1, worker_concurrency=str(SLOTS), drain_s="20") as stack:
        yield stack


@pytest.fixture
def hurried(redis_server: EmbeddedRedis) -> Generator[Stack]:
    """The same, with hardly any time to drain."""
    with running_stack(redis_server, workers=1, worker_concurrency=str(SLOTS), drain_s="0.2") as stack:
        yield stack


def calls(stack: Stack, job_id: str) -> list[str]:
    return [row["status"] for row in stack.meter(job_id)]


def test_sigterm_lets_what_runs_finish_and_leaves_the_rest_in_the_queue(one: Stack) -> None:
    with Client(base_url=one.url, api_key=one.api_key, model="openai/gpt-4o-mini") as client:
        speeds = [SLOW] * SLOTS + [QUICK] * 2  # the oldest are called first; only they have to outlast what comes next
        handles = [client.submit(f"{n} {speed}") for n, speed in enumerate(speeds)]
        wait_until(lambda: sum(bool(calls(one, h.id)) for h in handles) == SLOTS, "both slots to be in a call")
        assert one.worker.stop(signal.SIGTERM) == 0
        jobs = [client.get(handle.id) for handle in handles]
        assert sorted(job.status for job in jobs) == ["queued", "queued", "succeeded", "succeeded"]
        assert [calls(one, h.id) for h in handles if client.get(h.id).status == "succeeded"] == [["completed"]] * SLOTS
        one.start_worker()
        assert all(handle.wait(60).status == "succeeded" for handle in handles)
        assert [len(calls(one, handle.id)) for handle in handles] == [1] * len(handles)


def test_a_call_that_outlasts_the_drain_is_closed_booked_and_queued_again(hurried: Stack) -> None:
    with Client(base_url=hurried.url, api_key=hurried.api_key, model="openai/gpt-4o-mini") as client:
        again = client.submit(f"again {ENDLESS}")
        once = client.submit(f"once {ENDLESS}", on_crash="fail")
        wait_until(lambda: calls(hurried, again.id) and calls(hurried, once.id), "both calls to begin")
        assert hurried.worker.stop(signal.SIGTERM) == 0
        wait_until(lambda: calls(hurried, again.id) == ["aborted"], "the call to be closed upstream")
        waiting, failed = client.get(again.id), client.get(once.id)
        assert (waiting.status, waiting.calls) == ("queued", 1)
        assert waiting.cost.wasted_nano_usd
        assert failed.error is not None
        assert (failed.status, failed.error.code) == ("failed", "worker_lost")
        again.cancel()
