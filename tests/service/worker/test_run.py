"""How a job goes on when something else happens than an answer and its end, against real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import time
from collections.abc import Generator
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import msgspec
import pytest

from onceq.wire import Job, JobRequest
from onceq_service.providers import bedrock, open_providers
from onceq_service.providers._stream import AnswerStream
from onceq_service.providers.base import Delta, Provider
from onceq_service.settings import ProviderConfig, ProviderKind
from onceq_service.store import Store
from onceq_service.store.engine import Receipt
from onceq_service.worker import run
from onceq_service.worker.call import LiveCall
from onceq_service.worker.claimed import ClaimedJob, ClaimedJobs
from onceq_service.worker.limits import RateLimitReporter
from onceq_service.worker.relay import Relay
from onceq_service.worker.run import Runner
from onceq_service.worker.stopwatch import Stopwatch
from tests.service.providers.raw_server import answer, chunked, raw_provider, sse
from tests.service.store.driver import admission, claim_one, dispatch, success
from tests.waiting import until

MODELS: dict[ProviderKind, str] = {
    "openai": "openai/gpt-4o-mini",
    "anthropic": "anthropic/claude-haiku-4-5",
    "bedrock": "bedrock/amazon.nova-lite-v1:0",
}  # fmt: skip


class Worker:
    """A worker's runner with one provider, without its loop of claims."""

    def __init__(self, store: Store, kind: ProviderKind, provider: Provider) -> None:
        self.store = store
        self.kind: ProviderKind = kind
        self.claimed = ClaimedJobs(4)
        config = ProviderConfig(kind=kind, base_url="http://127.0.0.1:9", simulated=True)
        self.runner = Runner(
            20, store.engine, Relay(store.engine, 0.0), RateLimitReporter(store.lanes), self.claimed, {kind: provider},
            {kind: config}, random.Random(7),
        )  # fmt: skip

    async def post(self, deadline_s: float = 3600.0, **asked: Any) -> str:
        request = JobRequest(model=MODELS[self.kind], prompt="Say it.", **asked)
        body = request.model_dump_json(exclude_none=True).encode()
        names = {"model": MODELS[self.kind], "lane": MODELS[self.kind], "provider": self.kind}
        bounds: dict[str, Any] = {"deadline_s": deadline_s, "max_calls": request.max_calls or 3}
        return (await self.store.jobs.admit(admission(request=body, **names, **bounds))).id

    async def begin(self) -> tuple[ClaimedJob, asyncio.Task[None]]:
        [claim], _ = await self.store.engine.claim("w1", 1, [self.kind])
        claimed_job = self.claimed.add(claim)
        return claimed_job, asyncio.create_task(self.runner.run(claimed_job))

    async def job(self, job_id: str) -> Job:
        found = await self.store.jobs.get(job_id, "t")
        assert found is not None
        return found


@pytest.mark.parametrize("reason", ["drain", "timeout", "deadline", "cancel"])
async def test_an_answer_that_is_whole_is_kept_whatever_ends_the_wait_for_its_connection(
    store: Store, reason: Literal["drain", "timeout", "deadline", "cancel"]
) -> None:
    """It was paid for; another call would be paid for too."""
    words: list[dict[str, object]] = [{"delta": {"content": "All of it."}}, {"delta": {}, "finish_reason": "stop"}]
    told = [{"choices": [word]} for word in words]
    async with raw_provider("openai", chunked(sse(*told), end=False), "hang") as provider:
        worker = Worker(store, "openai", provider)
        job_id = await worker.post()
        claimed_job, running = await worker.begin()

        async def said() -> bool:
            return (await worker.job(job_id)).text == "All of it."

        await until(said, "the words to be there")
        claimed_job.stop(reason)
        await running
    job = await worker.job(job_id)
    assert (job.status, job.text, job.calls) == ("succeeded", "All of it.", 1)
    assert job.output is not None
    assert job.output.finish_reason == "stop"
    assert job.cost.wasted_nano_usd == 0


async def test_an_end_that_is_read_and_not_yet_taken_is_taken_when_the_job_is_stopped(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket's callback decodes it, and whoever reads would come back for it in the next turn of the loop."""
    begun, stopped = asyncio.Event(), list[bool]()
    first, rest = [{"choices": [{"delta": {"content": word}}]} for word in ("All ", "of it.")]
    over: dict[str, object] = {"choices": [{"delta": dict[str, str](), "finish_reason": "stop"}]}

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(chunked(sse(first), end=False))
        await begun.wait()
        last = sse(rest, over, "[DONE]")
        writer.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(last), last))
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    provider = open_providers({"openai": ProviderConfig(kind="openai", base_url=url, simulated=True)}, {})["openai"]
    worker = Worker(store, "openai", provider)
    job_id = await worker.post()
    claimed_job, running = await worker.begin()
    at_once = AnswerStream._at_once  # pyright: ignore[reportPrivateUsage]

    def and_stop(stream: AnswerStream, chunk: bytes) -> float | None:
        by = at_once(stream, chunk)
        if stream.answered:
            stopped.append(by is None)
            claimed_job.stop("drain")
        return by

    monkeypatch.setattr(AnswerStream, "_at_once", and_stop)

    async def said() -> bool:
        return (await worker.job(job_id)).text == "All "

    await until(said, "the first words to be there")
    begun.set()
    await running
    await provider.close()
    server.close()
    job = await worker.job(job_id)
    assert stopped == [True], "the end came by the socket's callback, and was left to its reader"
    assert (job.status, job.text, job.calls) == ("succeeded", "All of it.", 1)


@pytest.mark.parametrize("asked", [{"not_before": "0001-01-01T00:00:00Z"}, {"max_cost_usd": 1e-10}, {"gone": 1}])
async def test_a_job_that_an_older_version_took_and_this_one_refuses_fails_with_a_sentence(
    store: Store, asked: dict[str, Any]
) -> None:
    async with raw_provider("openai", b"", "hang") as provider:
        worker = Worker(store, "openai", provider)
        body = msgspec.json.encode({"model": MODELS["openai"], "prompt": "Say it.", **asked})
        made = await store.jobs.admit(admission(request=body, model=MODELS["openai"], lane=MODELS["openai"]))
        _, running = await worker.begin()
        await running
    job = await worker.job(made.id)
    assert job.error is not None
    assert (job.status, job.error.code, job.calls) == ("failed", "invalid_request", 0)
    assert made.id in job.error.message


@contextlib.contextmanager
def deaf_port() -> Generator[int]:
    """A port at which the kernel answers no knock: its queue of connections is full."""
    with contextlib.ExitStack() as opened:
        listener = opened.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            knock = opened.enter_context(socket.socket())
            knock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                knock.connect(listener.getsockname())
        yield listener.getsockname()[1]


@pytest.mark.parametrize("why", ["cancel", "first_byte"])
@pytest.mark.parametrize("kind", list(MODELS))
async def test_a_call_that_never_left_is_not_billed(
    store: Store, kind: ProviderKind, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bedrock, "CONNECT_S", 2)  # its thread can't be woken from a connect
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    with deaf_port() as port:
        config = ProviderConfig(kind=kind, base_url=f"http://127.0.0.1:{port}", simulated=True)
        provider = open_providers({kind: config}, {})[kind]
        worker = Worker(store, kind, provider)
        job_id = await worker.post(timeouts={"first_byte_s": 0.2} if why == "first_byte" else None, max_calls=1)
        claimed_job, running = await worker.begin()

        async def begun() -> bool:
            return (await worker.job(job_id)).calls == 1

        await until(begun, "the call to be on record")
        if why == "cancel":
            claimed_job.stop("cancel")
        await running
        await provider.close()
    [row] = (await store.ledger.page("t", 0, 2**45, None, 10)).entries
    assert (row.outcome, row.billed, row.spent_nano_usd) == (
        "cancelled" if why == "cancel" else "provider_unreachable", False, 0,
    )  # fmt: skip


async def test_a_break_that_comes_too_late_for_another_try_is_what_the_job_fails_of(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A try that could begin only after the deadline would hide it, and perhaps be paid for."""
    passed_s = 0.0
    watch = partial(Stopwatch, now_s=lambda: time.monotonic() + passed_s)
    monkeypatch.setattr(run, "Stopwatch", watch)

    def late(_: bytes) -> bytes:
        nonlocal passed_s
        passed_s = 3600.0
        return chunked(sse({"choices": [{"delta": {"content": "Half"}}]}), end=False)

    async with raw_provider("openai", late, "cut") as provider:
        worker = Worker(store, "openai", provider)
        job_id = await worker.post()
        await (await worker.begin())[1]
    job = await worker.job(job_id)
    assert job.error is not None
    assert (job.status, job.error.code, job.error.retryable, job.calls) == ("failed", "stream_broken", True, 1)


@pytest.mark.parametrize("deadline_s", [20.0, 3600.0])
async def test_a_429_holds_its_lane_back_also_where_its_job_can_not_wait_for_it(
    store: Store, deadline_s: float
) -> None:
    refusal = answer(b'{"error": {"message": "slow down"}}', status=429, headers="retry-after: 60\r\n")
    async with raw_provider("openai", refusal) as provider:
        worker = Worker(store, "openai", provider)
        job_id = await worker.post(deadline_s=deadline_s)
        await (await worker.begin())[1]
    assert (await worker.job(job_id)).status == ("failed" if deadline_s < 60 else "queued")
    lane = await store.lanes.get(MODELS["openai"])
    assert (lane.brake_reason, lane.braked_until is not None) == ("provider_rate_limited", True)


@pytest.mark.parametrize(("own_s", "told"), [(0.05, 0), (None, 1)])
async def test_a_job_that_gives_its_provider_no_time_tells_nothing_of_the_lane(
    store: Store, own_s: float | None, told: int
) -> None:
    """Else a tenant could close a lane for all others by its own impatience."""
    async with raw_provider("openai", b"", "hang") as provider:
        worker = Worker(store, "openai", provider)
        config = worker.runner.configs["openai"].model_copy(update={"first_byte_s": 0.1 if own_s is None else 60.0})
        worker.runner = replace(worker.runner, configs={"openai": config})
        for max_calls in (1, 2):  # it ends, and is tried again
            job_id = await worker.post(timeouts={"first_byte_s": own_s} if own_s else None, max_calls=max_calls)
            await (await worker.begin())[1]
            assert (await worker.job(job_id)).status == ("failed" if max_calls == 1 else "queued")
    assert (await store.lanes.get(MODELS["openai"])).failures_in_row == 2 * told


async def test_a_worker_that_gets_its_own_lost_job_again_ends_the_call_that_it_had(store: Store) -> None:
    async with raw_provider("openai", b"", "hang") as provider:
        worker = Worker(store, "openai", provider)
        await worker.post()
        before, running = await worker.begin()

        async def sent() -> bool:
            return before.call is not None

        await until(sent, "the call to begin")
        lost = Receipt("worker_lost", billed=False)
        assert await store.engine.requeue(before.claim, lost, delay_s=0, reason="worker_lost")
        after, again = await worker.begin()
        async with asyncio.timeout(20):
            await running
        assert (before.reason, after.reason) == ("lost", None)
        after.stop("cancel")
        await again


async def test_words_that_no_flush_has_taken_yet_are_in_what_a_cancelled_call_cost(store: Store) -> None:
    go_on = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(chunked(end=False))
        for word in ("One", "two", "three" * 60):
            event = sse({"choices": [{"delta": {"content": word}}]})
            writer.write(b"%x\r\n%s\r\n" % (len(event), event))
            await go_on.wait()
            go_on.clear()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    provider = open_providers({"openai": ProviderConfig(kind="openai", base_url=url, simulated=True)}, {})["openai"]
    worker = Worker(store, "openai", provider)
    relay = Relay(store.engine, 1_600.0)
    worker.runner = replace(worker.runner, relay=relay)
    job_id = await worker.post()
    claimed_job, running = await worker.begin()

    async def said(text: str) -> bool:
        return (await worker.job(job_id)).text == text

    async def waits() -> bool:
        return bool(relay._dirty)  # pyright: ignore[reportPrivateUsage]

    for so_far in ("One", "Onetwo"):  # the first two flushes are at once
        await until(partial(said, so_far), "the words to be there")
        go_on.set()
    await until(waits, "the last words to wait for a flush")
    claimed_job.stop("cancel")
    await running
    go_on.set()
    await provider.close()
    server.close()
    job = await worker.job(job_id)
    assert job.text == "Onetwo" + "three" * 60
    assert job.receipt is not None
    assert job.receipt.output_tokens == 306 // 3


@pytest.mark.parametrize("whole", [False, True])
async def test_what_a_worker_has_read_of_a_call_that_it_lost_is_booked(store: Store, *, whole: bool) -> None:
    """It hangs up at once. Whoever took the job from it could only go by the words that Redis had."""
    taken, hung_up = asyncio.Event(), asyncio.Event()
    first, rest = [{"choices": [{"delta": {"content": word}}]} for word in ("All ", "of it" * 600)]
    end: list[object] = [
        {"choices": [{"delta": dict[str, str](), "finish_reason": "stop"}]},
        {"choices": list[object](), "usage": {"prompt_tokens": 10, "completion_tokens": 1_000, "total_tokens": 1_010}},
        "[DONE]",
    ]

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(chunked(sse(first), end=False))
        await taken.wait()
        last = sse(rest, *end) if whole else sse(rest)
        writer.write(b"%x\r\n%s\r\n" % (len(last), last) + (b"0\r\n\r\n" if whole else b""))
        await reader.read()
        hung_up.set()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    provider = open_providers({"openai": ProviderConfig(kind="openai", base_url=url, simulated=True)}, {})["openai"]
    worker = Worker(store, "openai", provider)
    job_id = await worker.post()
    claimed_job, running = await worker.begin()

    async def said() -> bool:
        return (await worker.job(job_id)).text == "All "

    await until(said, "the first words to be there")
    by_estimate = Receipt("worker_lost", billed=True, estimated=True, output_tokens=2, spent_nano_usd=1_200)
    assert await store.engine.requeue(claimed_job.claim, by_estimate, delay_s=3600, reason="worker_lost")
    taken.set()
    async with asyncio.timeout(20):
        await running
        if not whole:
            await hung_up.wait()
    await provider.close()
    server.close()
    rows = (await store.ledger.page("t", 0, 2**45, None, 10)).entries
    assert [(row.outcome, row.estimated) for row in rows] == [("worker_lost", True), ("correction", not whole)]
    assert sum(row.output_tokens for row in rows) == (1_000 if whole else -(-3_004 // 3))
    if whole:
        assert sum(row.spent_nano_usd or 0 for row in rows) == 10 * 150 + 1_000 * 600
    assert (await worker.job(job_id)).cost.wasted_nano_usd == sum(row.wasted_nano_usd for row in rows)


async def test_words_of_a_lost_call_do_not_stop_the_one_that_took_its_place(store: Store) -> None:
    await store.jobs.admit(admission())
    claim = await claim_one(store)
    sent = await dispatch(store, claim)
    assert await store.engine.requeue(claim, Receipt("lost", billed=False), delay_s=0, reason="worker_lost")
    again = await claim_one(store)
    sent_again = await dispatch(store, again, 2)
    relay, old, new = Relay(store.engine, 0.0), ClaimedJob(claim), ClaimedJob(again)
    calls = LiveCall(old, sent.call, sent.seq), LiveCall(new, sent_again.call, sent_again.seq)
    for call in calls:
        relay.add(call, [Delta("text", "word ")])

    async def result() -> bool:
        return old.reason is not None or new.reason is not None

    await until(result, "the flush to be answered")
    assert (old.reason, new.reason) == ("lost", None)
    await relay.settle(calls[1])
    await store.engine.finish(again, success(sent_again.seq + 2))
