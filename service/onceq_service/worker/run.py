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
from onceq_service.providers import DEPARTURE, Departure
from onceq_service.providers.base import CallSpec, CallStream, Clocks, Delta, Provider, ProviderError, Take
from onceq_service.settings import ProviderConfig
from onceq_service.store import Engine, LeaseLost
from onceq_service.store.engine import Claim, Dispatched, End, EndState, Receipt
from onceq_service.worker import problems, settlement
from onceq_service.worker.call import LiveCall
from onceq_service.worker.ending import output_json, rest
from onceq_service.worker.heard import Heard
from onceq_service.worker.held import Held, Holding
from onceq_service.worker.lag import Lag
from onceq_service.worker.learning import Learning
from onceq_service.worker.patience import LeftToLease, Patience
from onceq_service.worker.relay import Relay
from onceq_service.worker.retry import GiveUp, Left, Retry, decide, take_up_after_s
from onceq_service.worker.spans import Spans
from onceq_service.worker.stopwatch import Stopwatch
from onceq_service.worker.tries import Try

log = structlog.get_logger("onceq.worker")
T = TypeVar("T")

ABANDONED = frozenset({"cancel", "deadline", "timeout"})
"""Reasons to stop for which nobody wants a background response any more."""


CLOCKED = frozenset({"provider_timeout", "provider_unreachable"})
"""What a call's own time may run out with, before its first byte."""


class Told(NamedTuple):
    """What the last call of a job that failed tells of its lane: how long to hold it back, and whether it is down."""

    brake_s: float = 0.0
    trips: bool = True


NOTHING = Told()


@dataclass(frozen=True)
class Runner:
    """What running a job needs; one a worker process."""

    max_tries: int
    engine: Engine
    relay: Relay
    learning: Learning
    holding: Holding
    providers: Mapping[str, Provider]
    configs: Mapping[str, ProviderConfig]
    rng: random.Random = field(default_factory=random.Random)
    lag: Lag = field(default_factory=Lag)
    tariff: Tariff = field(default_factory=Tariff)
    spans: Spans = field(default_factory=Spans)
    patience: Patience = field(default_factory=Patience)

    async def run(self, held: Held) -> None:
        """Runs the job as far as it goes; returns when it is ended, queued again, or no longer ours."""
        try:
            with self.spans.job(held.claim):
                await self._run(held)
        except LeaseLost as exc:
            log.warning("a job is no longer ours", job=held.claim.id, why=str(exc))
        except LeftToLease:
            log.debug("a job is left to its lease", job=held.claim.id)  # all are counted at the end
        finally:
            self.holding.drop(held)

    async def _run(self, held: Held) -> None:
        claim = held.claim
        provider = self.providers.get(claim.text("provider"))
        if provider is None:
            await self._end(claim, "failed", error=problems.no_key(claim))
            return
        begun = await self._dispatch(held, provider)
        if begun is None:
            return
        try:
            await self._carry_out(begun)
        except LeaseLost:
            await self._own_up(begun)
            raise

    async def _carry_out(self, t: Try) -> None:
        with self.spans.call(t):
            await self._call(t, self._spec(t))
        await self._stored(t.claim, lambda: self.relay.settle(t.call))
        if t.heard.response is not None and t.held.reason in ABANDONED:
            await t.provider.abandon(t.heard.response)
        if t.held.reason == "lost":
            raise LeaseLost(f"job {t.claim.id} was lost to another worker; its call is closed")
        await self._conclude(t)

    async def _own_up(self, t: Try) -> None:
        """Our call was booked by what Redis had of it, and we may have read more: that is on the bill, too (G5)."""
        receipt = t.receipt()
        if not receipt.billed:
            return
        word = await self._stored(t.claim, lambda: self.engine.amend(t.claim, t.number, receipt))
        if word == "gone":
            log.warning(
                "a lost call can't be corrected: its job has lapsed", job=t.claim.id, call=t.sent.call,
                output_tokens=receipt.output_tokens, spent_nano_usd=receipt.spent_nano_usd,
            )  # fmt: skip

    async def _dispatch(self, held: Held, provider: Provider) -> Try | None:
        """Makes the record durable; None when the job must not be called any more (and has been ended)."""
        claim, model_id = held.claim, held.claim.text("model").partition("/")[2]
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
            said = await self._stored(claim, lambda: self.engine.said(claim))
            call, heard = LiveCall.taken_up(held, sent.call, sent.seq, said), Heard(True, response=claim.text("resp"))
        elif sent.word == "ok":
            call, heard = LiveCall(held, sent.call, sent.seq), Heard()
        else:
            await self._not_sent(claim, sent)
            return None
        return Try(
            held=held, provider=provider, model_id=model_id, in_bytes=in_bytes, number=number, sent=sent, call=call,
            heard=heard, request=request, prices=prices, watch=watch, local=local,
        )  # fmt: skip

    def _spec(self, t: Try) -> CallSpec:
        config, own = self.configs[t.claim.text("provider")], t.request.timeouts or Timeouts()
        clocks = Clocks(own.first_byte_s or config.first_byte_s, own.between_bytes_s or config.between_bytes_s)
        background = t.claim.text("on_crash") == "resume"
        return CallSpec(t.request, t.model_id, f"{t.claim.id}/{t.sent.call}", clocks, background, t.resume())

    async def _call(self, t: Try, spec: CallSpec) -> None:
        """Runs the provider call as a child until it ends or has to stop (then `held.reason` says why)."""
        held = t.held
        if "cancel" in held.claim.fields:
            held.stop("cancel")
        held.call = asyncio.create_task(self._consume(t, spec), name=f"call-{held.claim.id}")
        if held.reason is not None:
            held.call.cancel()
        with _clocks(t):
            await _over(held.call)
        if not held.call.cancelled() and (error := held.call.exception()) is not None:
            log.error("a call failed in our code", job=held.claim.id, call=t.sent.call, **without_words(error))
            t.heard.error = ProviderError(
                "internal_error", f"onceq failed during the call ({type(error).__name__}); see the worker's log",
                cause="broken",
            )  # fmt: skip

    async def _consume(self, t: Try, spec: CallSpec) -> None:
        loop, heard = asyncio.get_running_loop(), t.heard
        start = loop.time()

        def sent(heeded: bool) -> None:
            t.watch.sent()
            if heeded:
                self.holding.calm(t.held)

        def over() -> None:
            t.watch.stop()
            self.holding.stir(t.held)

        def take(deltas: list[Delta]) -> bool:
            if heard.first_s is None:
                heard.first_s = loop.time() - start
                self.holding.calm(t.held)
            t.watch.heard()
            return self.relay.add(t.call, deltas)

        departure = Departure(sent)
        DEPARTURE.set(departure)
        try:
            async with t.provider.call(spec) as stream:
                self.learning.note(t.claim.text("lane"), stream.rate_limits)
                stream.hand_to(take)
                await self._hear(t, stream, take)
                over()
        except ProviderError as exc:
            heard.error = exc
        finally:
            heard.begun = heard.begun or departure.left
            over()

    async def _hear(self, t: Try, stream: CallStream, take: Take) -> None:
        """The answer to its end; what was read by then is taken however it ends."""
        read: list[Delta] = []
        try:
            async for read in stream:
                if t.heard.response != stream.response:
                    await self._named(t, stream.response)
                deltas, read = read, []
                if not deltas or not take(deltas):
                    await self.relay.room()
            t.heard.finish_reason = stream.finish_reason
        finally:
            if unread := [*read, *stream.left()]:  # it was stopped between a read and its turn
                take(unread)
            t.heard.note(stream)

    async def _named(self, t: Try, response: str | None) -> None:
        """A background response has an id: from here on a successor can take it up."""
        t.heard.response = response
        if response is not None:
            try:
                await self._stored(t.claim, lambda: self.engine.attach(t.claim, response))
            except LeaseLost:
                t.held.stop("lost")

    async def _conclude(self, t: Try) -> None:
        if t.heard.complete:
            await self._end(t.claim, "succeeded", t)
        elif t.held.reason == "cancel":
            await self._end(t.claim, "cancelled", t)
        elif t.held.reason == "deadline":
            await self._end(t.claim, "expired", t, problems.too_late(t.claim))
        elif t.held.reason == "timeout":
            await self._retry_or_fail(t, problems.too_slow())
        else:
            await self._retry_or_fail(t, t.heard.error or problems.stopped())

    async def _retry_or_fail(self, t: Try, error: ProviderError) -> None:
        if t.goes_on(error):
            await self._hand_over(t, error)
            return
        match GiveUp(retryable=True) if t.out_of_reach(error) else decide(error, self._left(t), self.rng):
            case Retry() as again:
                await self._flush(t.call)
                queued = await self._stored(t.claim, lambda: self.engine.requeue(
                    t.claim, t.receipt(), delay_s=again.delay_s, reason=error.code, brake_s=again.brake_s,
                    fallback=again.fallback, measured=t.watch.packed(), trips=not self._impatient(t, error),
                ))  # fmt: skip
                if queued:
                    log.info("a call failed and is made again", **_about(t.claim, t, error.code, in_s=again.delay_s))
                else:
                    await self._end(t.claim, "cancelled", t)
            case GiveUp(retryable, brake_s):
                problem = JobError(code=error.code, message=error.message, retryable=retryable)
                told = Told(brake_s, trips=not self._impatient(t, error))
                await self._end(t.claim, "failed", t, problem, told=told)

    async def _hand_over(self, t: Try, error: ProviderError) -> None:
        """The next worker takes the call up again; what was not yet written down it gets from the provider."""
        delay_s = 0.0
        if t.held.reason != "drain":
            delay_s = take_up_after_s(error, t.claim.number("takeovers"), self.rng)
        queued = await self._stored(t.claim, lambda: self.engine.hand_over(
            t.claim, delay_s=delay_s, reason=error.code, measured=t.watch.packed(),
        ))  # fmt: skip
        if queued:
            log.info("a call broke and is taken up again", **_about(t.claim, t, error.code, in_s=delay_s))
        elif t.heard.response is not None:
            await t.provider.abandon(t.heard.response)
            await self._end(t.claim, "cancelled", t)

    def _left(self, t: Try) -> Left:
        """A worker that has to go is to its jobs what a crash is: `on_crash` decides, not `on_break`."""
        return Left(
            tries=t.number, max_tries=self.max_tries, calls=t.sent.call, max_calls=t.claim.number("max_calls"),
            remaining_s=t.remaining_s(),
            on_break="fail" if t.wants_no_second else "retry",
            others=len(t.claim.text("chain").split()),
        )  # fmt: skip

    def _impatient(self, t: Try, error: ProviderError) -> bool:
        """Whether it was the job that gave its provider less time than it has: that tells nothing of the lane."""
        own = t.request.timeouts.first_byte_s if t.request.timeouts else None
        mine = own is not None and own < self.configs[t.claim.text("provider")].first_byte_s
        return mine and error.code in CLOCKED

    async def _stored(self, claim: Claim, do: Callable[[], Awaitable[T]]) -> T:
        return await self.patience.until_stored(f"job {claim.id}", do)

    async def _flush(self, call: LiveCall) -> None:
        """What arrived before a break belongs to the log too; a `reset` voids it when the next call starts."""
        call.seal()
        while call.dirty:
            for word, last in await self._stored(call.held.claim, lambda: self.engine.append(call.unsent())):
                if word == "lost" or not call.confirm(last):
                    raise LeaseLost(f"job {call.held.claim.id} was lost while its events were written")

    async def _not_sent(self, claim: Claim, sent: Dispatched) -> None:
        said = await self._stored(claim, lambda: self.engine.said(claim))  # of the calls before
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
                await self._end(claim, "failed", error=problems.too_dear(claim), said=said)
            case _:
                message = f"job {claim.id} has used its {claim.number('max_calls')} calls; replay it to try anew"
                await self._end(
                    claim, "failed", error=JobError(code="worker_lost", message=message, retryable=True), said=said
                )

    async def _end(
        self,
        claim: Claim,
        state: EndState,
        t: Try | None = None,
        error: JobError | None = None,
        said: Output | None = None,
        told: Told = NOTHING,
    ) -> None:
        """Ends the job with its last text; sends again what a restarted Redis lost before.

        `said` is what its readers have of it where it ends without a try.
        """
        receipt = t.receipt() if t else None
        output = t.call.output(t.heard.finish_reason) if t else said or Output()
        usage = settlement.usage_of(receipt) if receipt and receipt.billed else None
        cancelled = settlement.cancelled(receipt, t.heard, t.request.max_tokens, t.prices) if t else CancelReceipt()
        members = rest(
            usage=usage, finish_reason=output.finish_reason, error=error,
            receipt=cancelled if state == "cancelled" else None,
        )  # fmt: skip

        async def finish() -> bool:
            end = _end_of(state, t, members, output_json(output), receipt, told)
            word, last = await self.engine.finish(claim, end)
            if word == "gap" and (t is None or not t.call.confirm(last)):
                raise LeaseLost(f"Redis has lost more of job {claim.id} than its worker can send again")
            return word == "ok"

        while not await self._stored(claim, finish):
            pass
        self.spans.ended(state, error)
        if error is not None:
            log.warning(f"a job {state}", **_about(claim, t, error.code))


def _request_of(stored: bytes) -> JobRequest | None:
    """None where it asks for what an older version took."""
    try:
        return JobRequest.model_validate_json(stored)
    except ValidationError:
        return None


def _about(claim: Claim, t: Try | None, code: str, *, in_s: float | None = None) -> dict[str, object]:
    """A job for the log: no word of what it asks, was answered, or went wrong with; the job itself has those."""
    told: dict[str, object] = {
        "job": claim.id, "model": claim.text("model"), "provider": claim.text("provider"), "code": code,
        "call": t.sent.call if t else claim.number("calls"),
    }  # fmt: skip
    return told if in_s is None else told | {"in_s": round(in_s, 1)}


def _end_of(state: EndState, t: Try | None, members: bytes, output: bytes, receipt: Receipt | None, told: Told) -> End:
    frames = t.call.unsent() if t else []
    first_s = t.heard.first_s if t and t.sent.word == "ok" else None  # else it is the time of a takeover
    return End(
        state=state, rest=members, output=output, receipt=receipt, kept=state == "succeeded",
        first_seq=frames[0].seq if frames else 0, frames=[f.data for f in frames],
        out_bytes=t.call.out_bytes if t else 0, provider_ttft_ms=None if first_s is None else round(first_s * 1000),
        measured=t.watch.packed() if t else "", brake_s=told.brake_s, trips=told.trips,
    )  # fmt: skip


async def _over(task: asyncio.Task[None]) -> None:
    """Until a task has ended, however; asyncio.wait holds a kilobyte meanwhile, and a worker waits for thousands."""
    if not task.done():
        ended = asyncio.get_running_loop().create_future()
        task.add_done_callback(lambda _: ended.done() or ended.set_result(None))
        await ended


@contextmanager
def _clocks(t: Try) -> Generator[None]:
    """Stops the call at the job's deadline, or when its own time is over."""
    loop, call_s = asyncio.get_running_loop(), t.request.timeouts.call_s if t.request.timeouts else None
    timers = [loop.call_later((t.sent.deadline_ms - t.sent.now_ms) / 1000, t.held.stop, "deadline")]
    if call_s is not None:
        timers.append(loop.call_later(call_s, t.held.stop, "timeout"))
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()
