"""One job, from its claim to its end or its next place in the queue.

dispatch (the record is durable) -> provider -> relay -> finish, or requeue. A worker that lost the job drops the call
and writes nothing, but for what the ledger lacks of that call.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property

import structlog
from pydantic import ValidationError

from onceq.wire import JobError, JobRequest
from onceq_service.pricing import Tariff
from onceq_service.providers.base import Provider, ProviderError
from onceq_service.settings import ProviderConfig
from onceq_service.store import Engine, LeaseLost
from onceq_service.worker import problems, settlement
from onceq_service.worker.attempt import Attempt
from onceq_service.worker.call import LiveCall
from onceq_service.worker.calling import Caller
from onceq_service.worker.claimed import ClaimedJob, ClaimedJobs
from onceq_service.worker.finish import Finisher, LaneFeedback, about
from onceq_service.worker.lag import Lag
from onceq_service.worker.limits import RateLimitReporter
from onceq_service.worker.relay import Relay
from onceq_service.worker.result import CallResult
from onceq_service.worker.retry import GiveUp, Retry, RetryState, decide, take_up_after_s
from onceq_service.worker.spans import Spans
from onceq_service.worker.stopwatch import Stopwatch
from onceq_service.worker.store_retry import StoreRetry, StoreRetryExpired

log = structlog.get_logger("onceq.worker")
ABANDONED = frozenset({"cancel", "deadline", "timeout"})
"""Reasons to stop for which nobody wants a background response any more."""
CLOCKED = frozenset({"provider_timeout", "provider_unreachable"})
"""What a call's own time may run out with, before its first byte."""


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

    @cached_property
    def _caller(self) -> Caller:
        return Caller(self.engine, self.relay, self.limit_reporter, self.claimed, self.configs, self.store_retry)

    @cached_property
    def _finisher(self) -> Finisher:
        return Finisher(self.engine, self.store_retry, self.spans)

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
            await self._finisher.end(claim, "failed", error=problems.no_key(claim))
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
            await self._caller.call(attempt)
        await self.store_retry.stored(attempt.claim.id, lambda: self.relay.settle(attempt.call))
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
        word = await self.store_retry.stored(
            attempt.claim.id, lambda: self.engine.amend(attempt.claim, attempt.number, receipt)
        )
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
            await self._finisher.end(claim, "failed", error=problems.of_another_version(claim))
            return None
        number = claim.number("tries") + (not under_way)
        sent_at = datetime.fromtimestamp(claim.number("sent_ms") / 1000, UTC) if under_way else None
        local = self.tariff.local(claim.text("model"), sent_at)
        prices = settlement.prices_before(provider, model_id, in_bytes, local)
        sent = await self.store_retry.stored(claim.id, lambda: self.engine.dispatch(claim, number, in_bytes, prices))
        watch = Stopwatch(self.lag.total_s)
        if sent.word == "resume":
            said = await self.store_retry.stored(claim.id, lambda: self.engine.saved_output(claim))
            call = LiveCall.taken_up(job, sent.call, sent.seq, said)
            result = CallResult(True, response=claim.text("resp"))
        elif sent.word == "ok":
            call, result = LiveCall(job, sent.call, sent.seq), CallResult()
        else:
            await self._finisher.not_sent(claim, sent)
            return None
        return Attempt(
            job=job, provider=provider, model_id=model_id, in_bytes=in_bytes, number=number, sent=sent, call=call,
            result=result, request=request, prices=prices, watch=watch, local=local,
        )  # fmt: skip

    async def _conclude(self, attempt: Attempt) -> None:
        if attempt.result.complete:
            await self._finisher.end(attempt.claim, "succeeded", attempt)
        elif attempt.job.reason == "cancel":
            await self._finisher.end(attempt.claim, "cancelled", attempt)
        elif attempt.job.reason == "deadline":
            await self._finisher.end(attempt.claim, "expired", attempt, problems.too_late(attempt.claim))
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
                queued = await self.store_retry.stored(attempt.claim.id, lambda: self.engine.requeue(
                    attempt.claim, attempt.receipt(), delay_s=again.delay_s, reason=error.code, brake_s=again.brake_s,
                    fallback=again.fallback, measured=attempt.watch.packed(), trips=not self._impatient(attempt, error),
                ))  # fmt: skip
                if queued:
                    log.info(
                        "a call failed and is made again",
                        **about(attempt.claim, attempt, error.code, in_s=again.delay_s),
                    )
                else:
                    await self._finisher.end(attempt.claim, "cancelled", attempt)
            case GiveUp(retryable, brake_s):
                problem = JobError(code=error.code, message=error.message, retryable=retryable)
                feedback = LaneFeedback(brake_s, trips=not self._impatient(attempt, error))
                await self._finisher.end(attempt.claim, "failed", attempt, problem, feedback=feedback)

    async def _hand_over(self, attempt: Attempt, error: ProviderError) -> None:
        """The next worker takes the call up again; what was not yet written down it gets from the provider."""
        delay_s = 0.0
        if attempt.job.reason != "drain":
            delay_s = take_up_after_s(error, attempt.claim.number("takeovers"), self.rng)
        queued = await self.store_retry.stored(attempt.claim.id, lambda: self.engine.hand_over(
            attempt.claim, delay_s=delay_s, reason=error.code, measured=attempt.watch.packed(),
        ))  # fmt: skip
        if queued:
            log.info("a call broke and is taken up again", **about(attempt.claim, attempt, error.code, in_s=delay_s))
        elif attempt.result.response is not None:
            await attempt.provider.abandon(attempt.result.response)
            await self._finisher.end(attempt.claim, "cancelled", attempt)

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

    async def _flush(self, call: LiveCall) -> None:
        """What arrived before a break belongs to the log too; a `reset` voids it when the next call starts."""
        call.seal()
        while call.dirty:
            for word, last in await self.store_retry.stored(
                call.job.claim.id, lambda: self.engine.append(call.unsent())
            ):
                if word == "lost" or not call.confirm(last):
                    raise LeaseLost(f"job {call.job.claim.id} was lost while its events were written")


def _request_of(stored: bytes) -> JobRequest | None:
    """None where it asks for what an older version took."""
    try:
        return JobRequest.model_validate_json(stored)
    except ValidationError:
        return None
