"""Taskiq's broker over the store: Lua decides what runs next, Taskiq runs it.

Only `kick` and `listen` are ours. `listen` asks for work when a slot is free (`--max-prefetch 0`), so no worker hoards;
it survives Redis being away; and what it claimed but could not hand over when the worker stops goes back to the queue.

A message is a whole claim, not a job: between two messages Taskiq's receiver needs half a dozen turns of the event
loop, and while thousands of tokens come in those are long ones.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress

import structlog
from taskiq import BrokerMessage, TaskiqMessage
from taskiq_redis.redis_broker import BaseRedisBroker

from onceq.errors import OnceqError
from onceq_service import heap
from onceq_service.logs import without_words
from onceq_service.pricing import Tariff
from onceq_service.providers import open_providers
from onceq_service.settings import Settings, load_settings
from onceq_service.store import Retention, StoreError, open_store
from onceq_service.store.engine import Claim
from onceq_service.store.heartbeat import HeartbeatClient
from onceq_service.tracing import open_tracing
from onceq_service.worker import outage
from onceq_service.worker.alerts import AlertSender
from onceq_service.worker.claimed import ClaimedJob, ClaimedJobs
from onceq_service.worker.heartbeat import Heartbeat
from onceq_service.worker.limits import RateLimitReporter
from onceq_service.worker.relay import Relay
from onceq_service.worker.run import Runner
from onceq_service.worker.settlement import prices_before
from onceq_service.worker.spans import Spans

log = structlog.get_logger("onceq.worker")

TASK, ALERT = "onceq.run", "onceq.alert"
"""The task names: a message of an unknown name would be acknowledged and lost."""
CLAIM_AT_ONCE = 16
BOOKING_S = 5.0
"""How long jobs that the drain has stopped may wait for a Redis that is away."""
FULL_S = 0.05
"""How often a worker without a free slot looks for one."""


class LeaseBroker(BaseRedisBroker):
    """Hands claimed jobs to Taskiq's receiver, in one worker process."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings.redis_url, max_connection_pool_size=1)
        self.settings = settings
        self.worker_id = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self.claimed = ClaimedJobs(settings.worker_concurrency)
        self._stack = AsyncExitStack()
        self.heartbeat: Heartbeat | None = None
        self.register_task(self._task(), task_name=TASK)
        self.register_task(self._alert_task(), task_name=ALERT)

    async def startup(self) -> None:
        """Opens the store and the providers in this process's event loop, and begins to beat."""
        await super().startup()
        s = self.settings
        retention = Retention(s.result_ttl_s, s.events_ttl_s, s.idempotency_ttl_s, s.lease_s)
        self.store = await self._stack.enter_async_context(open_store(s.redis_url, s.queue, retention))
        configs = s.providers()
        self.providers = open_providers(configs, os.environ)
        for provider in self.providers.values():
            prices_before(provider, "any", 0)  # loads the price tables now, not during the first job
        relay = Relay(self.store.engine, s.flush_ms / 1000, idle=self._idle)
        self.limit_reporter = RateLimitReporter(self.store.lanes)
        self.runner = Runner(
            s.max_tries, self.store.engine, relay, self.limit_reporter, self.claimed, self.providers, configs,
            spans=await self._spans(), tariff=Tariff(configs, s.file().prices),
        )  # fmt: skip
        self.runner.lag.start()
        client = HeartbeatClient(s.redis_url, s.queue, self.store.retention.lease_ms)
        self.heartbeat = Heartbeat(client, self.worker_id, self.claimed, list(self.providers), s.lease_s)
        self.heartbeat.start()
        self.alert_sender = AlertSender(self.store.alerts, s.file().alerts, os.environ)
        self._looking = asyncio.create_task(self.alert_sender.look(), name="alerts")
        await self._stack.enter_async_context(self.store.cancels(lambda job_id: self.claimed.stop(job_id, "cancel")))
        if self.is_worker_process:
            heap.set_aside()  # clients and price tables: a full collection walks through all while all streams wait
        log.info("a worker serves", worker=self.worker_id, providers=list(self.providers))

    async def shutdown(self) -> None:
        """Closes what startup opened."""
        if self.heartbeat is not None:
            if left := self.runner.store_retry.expired:
                log.warning("Redis is away: jobs are left to their leases, their calls are closed", jobs=left)
            self.runner.lag.stop()
            self._looking.cancel()
            await asyncio.wait([self._looking])
            await asyncio.to_thread(self.heartbeat.stop)
            for provider in self.providers.values():
                await provider.close()
            await self.limit_reporter.close()
        await self._stack.aclose()
        await super().shutdown()

    async def _spans(self) -> Spans:
        """Tells of jobs and calls to OpenTelemetry where it is asked for; what is left to say is said at the stop."""
        tracing = open_tracing("onceq-worker", os.environ)
        if tracing is None:
            return Spans()
        self._stack.push_async_callback(tracing.close)
        return Spans(tracing.tracer, self.settings.queue)

    async def kick(self, message: BrokerMessage) -> None:
        """Refused: a job enters through `store.jobs.admit` alone, which dedupes, records and queues it in one step."""
        raise OnceqError(f"task {message.task_name} can't be sent: jobs are posted to /v1/jobs")

    async def listen(self) -> AsyncGenerator[bytes, None]:
        """Messages of claimed jobs, as slots become free."""
        try:
            while not _cancelled():
                while self.alert_sender.due:
                    yield self._formatted(ALERT, [self.alert_sender.due.pop(0)])
                if claimed := await self._claim():
                    # It is Taskiq's from here on: it runs also when Taskiq has been told to stop meanwhile.
                    yield self._formatted(TASK, [job.claim.id for job in claimed])
        finally:
            self._begin_drain()

    def _idle(self) -> bool:
        """Whether this loop may stand still: nothing is to be done for a job, and word of a new one would wake it."""
        return self.claimed.all_idle() and (self.store.engine.listens or self.claimed.free <= 0)

    def _task(self) -> Callable[..., Awaitable[None]]:
        """What Taskiq runs for each message of jobs; a function, since Taskiq renames what it registers."""

        async def run_jobs(*job_ids: str) -> None:
            outcomes = await asyncio.gather(*map(self._run, job_ids), return_exceptions=True)
            for job_id, outcome in zip(job_ids, outcomes, strict=True):
                if isinstance(outcome, BaseException):
                    log.error("a job failed in our code", job=job_id, **without_words(outcome))

        return run_jobs

    async def _run(self, job_id: str) -> None:
        job = self.claimed.get(job_id)
        if job is not None:
            await self.runner.run(job)

    def _alert_task(self) -> Callable[[str], Awaitable[None]]:
        """What Taskiq runs for the message of a budget's alert."""

        async def tell(alert_id: str) -> None:
            await self.alert_sender.deliver(alert_id)

        return tell

    async def _claim(self) -> list[ClaimedJob]:
        """The next jobs; an empty list after waiting a while. A cancelled wait never loses what was claimed."""
        want = min(CLAIM_AT_ONCE, self.claimed.free)
        if want <= 0:
            await asyncio.sleep(FULL_S)  # no wait for work: whoever wakes from that has taken the word from another
            return []
        asking = asyncio.create_task(self._ask(want))
        try:
            claims, wait_s = await asyncio.shield(asking)
        except asyncio.CancelledError:
            await self._give_back(asking)
            raise
        if not claims:
            await self._rest(wait_s)
        return [self.claimed.add(claim) for claim in claims]

    async def _ask(self, want: int) -> tuple[Sequence[Claim], float]:
        try:
            asked = self.store.engine.claim(self.worker_id, want, list(self.providers), running=len(self.claimed))
            claimed = await asked
        except StoreError as exc:
            outage.REDIS.away(exc)
            await asyncio.sleep(0.2)
            return [], 0.2
        outage.REDIS.back()
        return claimed

    async def _rest(self, wait_s: float) -> None:
        try:
            await self.store.engine.wait_for_work(list(self.providers), wait_s)
        except StoreError as exc:
            outage.REDIS.away(exc)
            await asyncio.sleep(0.2)

    async def _give_back(self, asking: asyncio.Task[tuple[Sequence[Claim], float]]) -> None:
        with suppress(StoreError, asyncio.CancelledError):
            for claim in (await asking)[0]:
                await self.store.engine.release(claim)

    def _formatted(self, task: str, ids: list[str]) -> bytes:
        message = TaskiqMessage(task_id=ids[0], task_name=task, labels={}, args=ids, kwargs={})
        return self.formatter.dumps(message).message

    def _begin_drain(self) -> None:
        """Running jobs may finish for `drain_s`; then their calls are closed, booked, and queued again.

        That is tried for a moment more while Redis is away.
        """
        drain_s = self.settings.drain_s
        log.info("draining: jobs may run on for a while", jobs=len(self.claimed), drain_s=drain_s)
        asyncio.get_running_loop().call_later(drain_s, self.claimed.stop_all, "drain")
        self.runner.store_retry.end_in(drain_s + BOOKING_S)


def _cancelled() -> bool:
    """Whether this task was told to end: a cancel that comes together with Redis' reply is swallowed on its way up.

    Taskiq asks for each message in a task of its own, cancels the last one when the worker stops, and waits for it.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def make_broker() -> LeaseBroker:
    """The broker of a worker process, from its environment; Taskiq calls this by name."""
    return LeaseBroker(load_settings())
