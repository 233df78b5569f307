"""One call at a provider: its request leaves, its answer goes to the relay, its clocks may end it.

The call is a child task, since Taskiq swallows a cancellation of its own tasks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from onceq.wire import Timeouts
from onceq_service.logs import without_words
from onceq_service.providers import SEND_PROGRESS, SendProgress
from onceq_service.providers.base import CallSpec, CallStream, Clocks, Delta, ProviderError, Take
from onceq_service.settings import ProviderConfig
from onceq_service.store import Engine, LeaseLost
from onceq_service.worker.attempt import Attempt
from onceq_service.worker.claimed import ClaimedJobs
from onceq_service.worker.limits import RateLimitReporter
from onceq_service.worker.relay import Relay
from onceq_service.worker.store_retry import StoreRetry

log = structlog.get_logger("onceq.worker")


@dataclass(frozen=True)
class Caller:
    """Makes calls; what each came to is in its attempt's result."""

    engine: Engine
    relay: Relay
    limit_reporter: RateLimitReporter
    claimed: ClaimedJobs
    configs: Mapping[str, ProviderConfig]
    store_retry: StoreRetry

    async def call(self, attempt: Attempt) -> None:
        """Runs the provider call as a child until it ends or has to stop (then `job.reason` says why)."""
        job, spec = attempt.job, self._spec(attempt)
        if "cancel" in job.claim.fields:
            job.stop("cancel")
        job.call = asyncio.create_task(self._consume(attempt, spec), name=f"call-{job.claim.id}")
        if job.reason is not None:
            job.call.cancel()
        with _clocks(attempt):
            await _over(job.call)
        if not job.call.cancelled() and (error := job.call.exception()) is not None:
            log.error("a call failed in our code", job=job.claim.id, call=attempt.sent.call, **without_words(error))
            attempt.result.error = ProviderError(
                "internal_error", f"onceq failed during the call ({type(error).__name__}); see the worker's log",
                cause="broken",
            )  # fmt: skip

    def _spec(self, attempt: Attempt) -> CallSpec:
        config, own = self.configs[attempt.claim.text("provider")], attempt.request.timeouts or Timeouts()
        clocks = Clocks(own.first_byte_s or config.first_byte_s, own.between_bytes_s or config.between_bytes_s)
        background = attempt.claim.text("on_crash") == "resume"
        return CallSpec(
            attempt.request,
            attempt.model_id,
            f"{attempt.claim.id}/{attempt.sent.call}",
            clocks,
            background,
            attempt.resume(),
        )

    async def _consume(self, attempt: Attempt, spec: CallSpec) -> None:
        loop, result = asyncio.get_running_loop(), attempt.result
        start = loop.time()

        def sent(watched: bool) -> None:
            attempt.watch.sent()
            if watched:
                self.claimed.mark_idle(attempt.job)

        def over() -> None:
            attempt.watch.stop()
            self.claimed.mark_active(attempt.job)

        def take(deltas: list[Delta]) -> bool:
            if result.first_s is None:
                result.first_s = loop.time() - start
                self.claimed.mark_idle(attempt.job)
            attempt.watch.received()
            return self.relay.add(attempt.call, deltas)

        progress = SendProgress(sent)
        SEND_PROGRESS.set(progress)
        try:
            async with attempt.provider.call(spec) as stream:
                self.limit_reporter.note(attempt.claim.text("lane"), stream.rate_limits)
                stream.hand_to(take)
                await self._hear(attempt, stream, take)
                over()
        except ProviderError as exc:
            result.error = exc
        finally:
            result.begun = result.begun or progress.started
            over()

    async def _hear(self, attempt: Attempt, stream: CallStream, take: Take) -> None:
        """The answer to its end; what was read by then is taken however it ends."""
        read: list[Delta] = []
        try:
            async for read in stream:
                if attempt.result.response != stream.response:
                    await self._named(attempt, stream.response)
                deltas, read = read, []
                if not deltas or not take(deltas):
                    await self.relay.room()
            attempt.result.finish_reason = stream.finish_reason
        finally:
            if unread := [*read, *stream.left()]:  # it was stopped between a read and its turn
                take(unread)
            attempt.result.note(stream)

    async def _named(self, attempt: Attempt, response: str | None) -> None:
        """A background response has an id: from here on a successor can take it up."""
        attempt.result.response = response
        if response is not None:
            try:
                await self.store_retry.stored(attempt.claim.id, lambda: self.engine.attach(attempt.claim, response))
            except LeaseLost:
                attempt.job.stop("lost")


async def _over(task: asyncio.Task[None]) -> None:
    """Until a task has ended, however; asyncio.wait holds a kilobyte meanwhile, and a worker waits for thousands."""
    if not task.done():
        ended = asyncio.get_running_loop().create_future()
        task.add_done_callback(lambda _: ended.done() or ended.set_result(None))
        await ended


@contextmanager
def _clocks(attempt: Attempt) -> Generator[None]:
    """Stops the call at the job's deadline, or when its own time is over."""
    loop, call_s = asyncio.get_running_loop(), attempt.request.timeouts.call_s if attempt.request.timeouts else None
    timers = [loop.call_later((attempt.sent.deadline_ms - attempt.sent.now_ms) / 1000, attempt.job.stop, "deadline")]
    if call_s is not None:
        timers.append(loop.call_later(call_s, attempt.job.stop, "timeout"))
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()
