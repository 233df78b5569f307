"""One job, from its claim to its end or its next place in the queue.

dispatch (the record is durable) -> provider -> relay -> finish, or requeue. A worker that lost the job drops the call
and writes nothing, but for what the ledger lacks of that call. The provider call is a child task: Taskiq swallows
cancellation of its own.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple, TypeVar

import structlog
from pydantic import ValidationError

from onceq.wire import CancelReceipt, JobError, JobRequest, Output, Timeouts
from onceq_service.logs import without_words
from onceq_service.pricing import Tariff
from onceq_service.providers import SEND_PROGRESS, SendProgress
from onceq_service.providers.base import CallSpec, CallStream, Clocks, Delta, Provider, ProviderError, Take
from onceq_service.settings import ProviderConfig
from onceq_service.store import Engine, LeaseLost
from onceq_service.store.engine import Claim, Dispatched, End, EndState, Receipt
from onceq_service.worker import problems, settlement
from onceq_service.worker.attempt import Attempt
from onceq_service.worker.call import LiveCall
from onceq_service.worker.claimed import ClaimedJob, ClaimedJobs
from onceq_service.worker.lag import Lag
from onceq_service.worker.limits import RateLimitReporter
from onceq_service.worker.relay import Relay
from onceq_service.worker.result import CallResult
from onceq_service.worker.retry import GiveUp, Retry, RetryState, decide, take_up_after_s
from onceq_service.worker.spans import Spans
from onceq_service.worker.stopwatch import Stopwatch
from onceq_service.worker.store_retry import StoreRetry, StoreRetryExpired
from onceq_service.worker.terminal import output_json, terminal_members

log = structlog.get_logger("onceq.worker")
T = TypeVar("T")

ABANDONED = frozenset({"cancel", "deadline", "timeout"})
"""Reasons to stop for which nobody wants a background response any more."""


CLOCKED = frozenset({"provider_timeout", "provider_unreachable"})
"""What a call's own time may run out with, before its first byte."""


class LaneFeedback(NamedTuple):
    """What the last call of a job that failed tells of its lane: how long to hold it back, and whether it is down."""

    brake_s: float = 0.0
    trips: bool = True


NO_FEEDBACK = LaneFeedback()


@dataclass(frozen=True)
class Runner:
    """What running a job needs; one a worker process."""

    max_tries: int
    engine: Engine
    relay: Relay
    limit_reporter: RateLimitReporter
    claimed: ClaimedJobs
    providers: Mapping[str, Provider]
    configs: Mapping[str, ProviderConfig]
    rng: random.Random = field(default_factory=random.Random)
    lag: Lag = field(default_factory=Lag)
    tariff: Tariff = field(default_factory=Tariff)
    spans: Spans = field(default_factory=Spans)
    store_retry: StoreRetry = field(default_factory=StoreRetry)

    async def run(self, job: ClaimedJob) -> None:
        """Runs the job as far as it goes; returns when it is ended, queued again, or no longer ours."""
        try:
            with self.spans.job(job.claim):
                await self._run(job)
        except LeaseLost as exc:
            log.warning("a job is no longer ours", job=job.claim.id, why=str(exc))
        except StoreRetryExpired:
            log.debug("a job is left to its lease", job=job.claim.id)  # all are counted at the end
        finally:
            self.claimed.drop(job)

    async def _run(self, job: ClaimedJob) -> None:
        claim = job.claim
        provider = self.providers.get(claim.text("provider"))
        if provider is None:
            await self._end(claim, "failed", error=problems.no_key(claim))
            return
        attempt = await self._dispatch(job, provider)
        if attempt is None:
            return
        try:
            await self._carry_out(attempt)
        except LeaseLost:
            await self._own_up(attempt)
            raise

    async def _carry_out(self, attempt: Attempt) -> None:
        with self.spans.call(attempt):
            await self._call(attempt, self._spec(attempt))
        await self._stored(attempt.claim, lambda: self.relay.settle(attempt.call))
        if attempt.result.response is not None and attempt.job.reason in ABANDONED:
            await attempt.provider.abandon(attempt.result.response)
        if attempt.job.reason == "lost":
            raise LeaseLost(f"job {attempt.claim.id} was lost to another worker; its call is closed")
        await self._conclude(attempt)

    async def _own_up(self, attempt: Attempt) -> None:
        """Our call was booked by what Redis had of it, and we may have read more: that is on the bill, too (G5)."""
        receipt = attempt.receipt()
        if not receipt.billed:
            return
        word = await self._stored(attempt.claim, lambda: self.engine.amend(attempt.claim, attempt.number, receipt))
        if word == "gone":
            log.warning(
                "a lost call can't be corrected: its job has lapsed", job=attempt.claim.id, call=attempt.sent.call,
                output_tokens=receipt.output_tokens, spent_nano_usd=receipt.spent_nano_usd,
            )  # fmt: skip

    async def _dispatch(self, job: ClaimedJob, provider: Provider) -> Attempt | None:
        """Makes the record durable; None when the job must not be called any more (and has been ended)."""
        claim, model_id = job.claim, job.claim.text("model").partition("/")[2]
        under_way = "resuming" in claim.fields
        asked = claim.take_request()
        request, in_bytes = _request_of(asked), len(asked)
        del asked
        if request is None:
            await self._end(claim, "failed", error=problems.of_another_version(claim))
            return None
        number = claim.number("tries") + (not under_way)
        sent_at = datetime.fromtimestamp(claim.number("sent_ms") / 1000, UTC) if under_way else None
        local = self.tariff.local(claim.text("model"), sent_at)
        prices = settlement.prices_before(provider, model_id, in_bytes, local)
        sent = await self._stored(claim, lambda: self.engine.dispatch(claim, number, in_bytes, prices))
        watch = Stopwatch(self.lag.total_s)
        if sent.word == "resume":
            said = await self._stored(claim, lambda: self.engine.saved_output(claim))
            call = LiveCall.taken_up(job, sent.call, sent.seq, said)
            result = CallResult(True, response=claim.text("resp"))
        elif sent.word == "ok":
            call, result = LiveCall(job, sent.call, sent.seq), CallResult()
        else:
            await self._not_sent(claim, sent)
            return None
        return Attempt(
            job=job, provider=provider, model_id=model_id, in_bytes=in_bytes, number=number, sent=sent, call=call,
            result=result, request=request, prices=prices, watch=watch, local=local,
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

    async def _call(self, attempt: Attempt, spec: CallSpec) -> None:
        """Runs the provider call as a child until it ends or has to stop (then `held.reason` says why)."""
        job = attempt.job
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
                await self._stored(attempt.claim, lambda: self.engine.attach(attempt.claim, response))
            except LeaseLost:
                attempt.job.stop("lost")

    async def _conclude(self, attempt: Attempt) -> None:
        if attempt.result.complete:
            await self._end(attempt.claim, "succeeded", attempt)
        elif attempt.job.reason == "cancel":
            await self._end(attempt.claim, "cancelled", attempt)
        elif attempt.job.reason == "deadline":
            await self._end(attempt.claim, "expired", attempt, problems.too_late(attempt.claim))
        elif attempt.job.reason == "timeout":
            await self._retry_or_fail(attempt, problems.too_slow())
        else:
            await self._retry_or_fail(attempt, attempt.result.error or problems.stopped())

    async def _retry_or_fail(self, attempt: Attempt, error: ProviderError) -> None:
        if attempt.goes_on(error):
            await self._hand_over(attempt, error)
            return
        match (
            GiveUp(retryable=True)
            if attempt.out_of_reach(error)
            else decide(error, self._retry_state(attempt), self.rng)
        ):
            case Retry() as again:
                await self._flush(attempt.call)
                queued = await self._stored(attempt.claim, lambda: self.engine.requeue(
                    attempt.claim, attempt.receipt(), delay_s=again.delay_s, reason=error.code, brake_s=again.brake_s,
                    fallback=again.fallback, measured=attempt.watch.packed(), trips=not self._impatient(attempt, error),
                ))  # fmt: skip
                if queued:
                    log.info(
                        "a call failed and is made again",
                        **_about(attempt.claim, attempt, error.code, in_s=again.delay_s),
                    )
                else:
                    await self._end(attempt.claim, "cancelled", attempt)
            case GiveUp(retryable, brake_s):
                problem = JobError(code=error.code, message=error.message, retryable=retryable)
                feedback = LaneFeedback(brake_s, trips=not self._impatient(attempt, error))
                await self._end(attempt.claim, "failed", attempt, problem, feedback=feedback)

    async def _hand_over(self, attempt: Attempt, error: ProviderError) -> None:
        """The next worker takes the call up again; what was not yet written down it gets from the provider."""
        delay_s = 0.0
        if attempt.job.reason != "drain":
            delay_s = take_up_after_s(error, attempt.claim.number("takeovers"), self.rng)
        queued = await self._stored(attempt.claim, lambda: self.engine.hand_over(
            attempt.claim, delay_s=delay_s, reason=error.code, measured=attempt.watch.packed(),
        ))  # fmt: skip
        if queued:
            log.info("a call broke and is taken up again", **_about(attempt.claim, attempt, error.code, in_s=delay_s))
        elif attempt.result.response is not None:
            await attempt.provider.abandon(attempt.result.response)
            await self._end(attempt.claim, "cancelled", attempt)

    def _retry_state(self, attempt: Attempt) -> RetryState:
        """A worker that has to go is to its jobs what a crash is: `on_crash` decides, not `on_break`."""
        return RetryState(
            tries=attempt.number, max_tries=self.max_tries, calls=attempt.sent.call,
            max_calls=attempt.claim.number("max_calls"), remaining_s=attempt.remaining_s(),
            on_break="fail" if attempt.wants_no_second else "retry",
            others=len(attempt.claim.text("chain").split()),
        )  # fmt: skip

    def _impatient(self, attempt: Attempt, error: ProviderError) -> bool:
        """Whether it was the job that gave its provider less time than it has: that tells nothing of the lane."""
        own = attempt.request.timeouts.first_byte_s if attempt.request.timeouts else None
        mine = own is not None and own < self.configs[attempt.claim.text("provider")].first_byte_s
        return mine and error.code in CLOCKED

    async def _stored(self, claim: Claim, do: Callable[[], Awaitable[T]]) -> T:
        return await self.store_retry.until_stored(f"job {claim.id}", do)

    async def _flush(self, call: LiveCall) -> None:
        """What arrived before a break belongs to the log too; a `reset` voids it when the next call starts."""
        call.seal()
        while call.dirty:
            for word, last in await self._stored(call.job.claim, lambda: self.engine.append(call.unsent())):
                if word == "lost" or not call.confirm(last):
                    raise LeaseLost(f"job {call.job.claim.id} was lost while its events were written")

    async def _not_sent(self, claim: Claim, sent: Dispatched) -> None:
        said = await self._stored(claim, lambda: self.engine.saved_output(claim))  # of the calls before
        match sent.word:
            case "cancel":
                await self._end(claim, "cancelled", said=said)
            case "deadline":
                await self._end(claim, "expired", error=problems.too_late(claim), said=said)
            case "budget_wait":
                at_ms = int(sent.why["at"])
                if not await self._stored(claim, lambda: self.engine.defer(claim, at_ms)):
                    await self._end(claim, "cancelled", said=said)
            case "budget":
                await self._end(claim, "failed", error=problems.no_budget(claim, sent.why), said=said)
            case "max_cost":
                await self._end(claim, "failed", error=problems.too_expensive(claim), said=said)
            case _:
                message = f"job {claim.id} has used its {claim.number('max_calls')} calls; replay it to try anew"
                await self._end(
                    claim, "failed", error=JobError(code="worker_lost", message=message, retryable=True), said=said
                )

    async def _end(
        self,
        claim: Claim,
        state: EndState,
        attempt: Attempt | None = None,
        error: JobError | None = None,
        said: Output | None = None,
        feedback: LaneFeedback = NO_FEEDBACK,
    ) -> None:
        """Ends the job with its last text; sends again what a restarted Redis lost before.

        `said` is what its readers have of it where it ends without a try.
        """
        receipt = attempt.receipt() if attempt else None
        output = attempt.call.output(attempt.result.finish_reason) if attempt else said or Output()
        usage = settlement.usage_of(receipt) if receipt and receipt.billed else None
        cancelled = (
            settlement.cancel_receipt(receipt, attempt.result, attempt.request.max_tokens, attempt.prices)
            if attempt
            else CancelReceipt()
        )
        members = terminal_members(
            usage=usage, finish_reason=output.finish_reason, error=error,
            receipt=cancelled if state == "cancelled" else None,
        )  # fmt: skip

        async def finish() -> bool:
            end = _end_of(state, attempt, members, output_json(output), receipt, feedback)
            word, last = await self.engine.finish(claim, end)
            if word == "gap" and (attempt is None or not attempt.call.confirm(last)):
                raise LeaseLost(f"Redis has lost more of job {claim.id} than its worker can send again")
            return word == "ok"

        while not await self._stored(claim, finish):
            pass
        self.spans.ended(state, error)
        if error is not None:
            log.warning(f"a job {state}", **_about(claim, attempt, error.code))


def _request_of(stored: bytes) -> JobRequest | None:
    """None where it asks for what an older version took."""
    try:
        return JobRequest.model_validate_json(stored)
    except ValidationError:
        return None


def _about(claim: Claim, attempt: Attempt | None, code: str, *, in_s: float | None = None) -> dict[str, object]:
    """A job for the log: no word of what it asks, was answered, or went wrong with; the job itself has those."""
    told: dict[str, object] = {
        "job": claim.id, "model": claim.text("model"), "provider": claim.text("provider"), "code": code,
        "call": attempt.sent.call if attempt else claim.number("calls"),
    }  # fmt: skip
    return told if in_s is None else told | {"in_s": round(in_s, 1)}


def _end_of(
    state: EndState,
    attempt: Attempt | None,
    members: bytes,
    output: bytes,
    receipt: Receipt | None,
    feedback: LaneFeedback,
) -> End:
    frames = attempt.call.unsent() if attempt else []
    first_s = (
        attempt.result.first_s if attempt and attempt.sent.word == "ok" else None
    )  # else it is the time of a takeover
    return End(
        state=state, rest=members, output=output, receipt=receipt, kept=state == "succeeded",
        first_seq=frames[0].seq if frames else 0, frames=[f.data for f in frames],
        out_bytes=attempt.call.out_bytes if attempt else 0,
        provider_ttft_ms=None if first_s is None else round(first_s * 1000),
        measured=attempt.watch.packed() if attempt else "", brake_s=feedback.brake_s, trips=feedback.trips,
    )  # fmt: skip


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
