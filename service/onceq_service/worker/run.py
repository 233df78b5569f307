"""One job, from its claim to its end or its next place in the queue.

dispatch (the record is durable) -> provider -> relay -> finish, or requeue. A worker that lost the job drops the call
and writes nothing. The provider call is a child task: Taskiq swallows cancellation of its own.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from onceq.wire import FinishReason, JobError, JobRequest, Output
from onceq_service.providers.base import CallSpec, Clocks, Provider, ProviderError
from onceq_service.settings import ProviderConfig, Settings
from onceq_service.store import Engine, LeaseLost
from onceq_service.store.engine import Claim, Dispatched, End, EndState, Receipt
from onceq_service.worker import settlement
from onceq_service.worker.call import LiveCall
from onceq_service.worker.ending import output_json, rest
from onceq_service.worker.held import Held, Holding
from onceq_service.worker.patience import until_stored
from onceq_service.worker.relay import Relay
from onceq_service.worker.retry import Budget, GiveUp, Retry, decide

log = logging.getLogger("onceq.worker")


@dataclass(slots=True)
class Outcome:
    """What the child task learned: the end marker, or an error; usage and time to first token where there were any."""

    finish_reason: FinishReason | None = None
    usage: Mapping[str, object] | None = None
    error: ProviderError | None = None
    first_s: float | None = None


@dataclass(frozen=True)
class Runner:
    """What running a job needs; one a worker process."""

    settings: Settings
    engine: Engine
    relay: Relay
    holding: Holding
    providers: Mapping[str, Provider]
    configs: Mapping[str, ProviderConfig]
    rng: random.Random = field(default_factory=random.Random)

    async def run(self, held: Held) -> None:
        """Runs the job as far as it goes; returns when it is ended, queued again, or no longer ours."""
        try:
            await self._run(held)
        except LeaseLost as exc:
            log.warning("%s", exc)
        finally:
            self.holding.drop(held)

    async def _run(self, held: Held) -> None:
        claim = held.claim
        provider = self.providers.get(claim.text("provider"))
        if provider is None:
            await self._end(claim, "failed", error=_no_key(claim))
            return
        request = JobRequest.model_validate_json(claim.fields["request"])
        model_id = claim.text("model").partition("/")[2]
        prices = settlement.unit_prices(provider, model_id)
        try_no = claim.number("tries") + 1
        in_bytes = len(claim.fields["request"])
        sent = await until_stored(f"job {claim.id}", lambda: self.engine.dispatch(claim, try_no, in_bytes, prices))
        if sent.word != "ok":
            await self._not_sent(claim, sent)
            return
        call = LiveCall(held, sent.call, sent.seq)
        outcome = await self._call(held, call, provider, self._spec(claim, request, model_id, sent), sent)
        await self.relay.settle(call)
        if held.reason == "lost":
            log.warning("job %s was lost to another worker; its call is closed", claim.id)
            return
        receipt = settlement.settle(provider, model_id, request, outcome.usage, call, outcome.error, held.reason)
        await self._conclude(held, call, sent, outcome, receipt, try_no)

    def _spec(self, claim: Claim, request: JobRequest, model_id: str, sent: Dispatched) -> CallSpec:
        config = self.configs[claim.text("provider")]
        clocks = Clocks(first_byte_s=config.first_byte_s, between_bytes_s=config.between_bytes_s)
        return CallSpec(request, model_id, f"{claim.id}/{sent.call}", clocks)

    async def _call(self, held: Held, call: LiveCall, provider: Provider, spec: CallSpec, sent: Dispatched) -> Outcome:
        """Runs the provider call as a child until it ends or has to stop (then `held.reason` says why)."""
        outcome = Outcome()
        held.call = asyncio.create_task(self._consume(call, provider, spec, outcome), name=f"call-{held.claim.id}")
        if held.reason is not None:
            held.call.cancel()
        left = (sent.deadline_ms - sent.now_ms) / 1000
        timer = asyncio.get_running_loop().call_later(left, held.stop, "deadline")
        try:
            await asyncio.wait({held.call})
        finally:
            timer.cancel()
        if not held.call.cancelled() and (error := held.call.exception()) is not None:
            log.error("a call of job %s failed in our code", held.claim.id, exc_info=error)
            outcome.error = ProviderError("internal_error", f"onceq failed during the call: {error!r}", cause="broken")
        return outcome

    async def _consume(self, call: LiveCall, provider: Provider, spec: CallSpec, outcome: Outcome) -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        try:
            async with provider.call(spec) as stream:
                try:
                    async for deltas in stream:
                        if outcome.first_s is None:
                            outcome.first_s = loop.time() - start
                        self.relay.add(call, deltas)
                    outcome.finish_reason = stream.finish_reason
                finally:
                    outcome.usage = stream.usage
        except ProviderError as exc:
            outcome.error = exc

    async def _conclude(
        self, held: Held, call: LiveCall, sent: Dispatched, outcome: Outcome, receipt: Receipt, try_no: int
    ) -> None:
        claim = held.claim
        if outcome.error is None and outcome.finish_reason is not None:
            await self._end(claim, "succeeded", call=call, outcome=outcome, receipt=receipt)
        elif held.reason == "cancel":
            await self._end(claim, "cancelled", call=call, outcome=outcome, receipt=receipt)
        elif held.reason == "deadline":
            await self._end(claim, "expired", call=call, outcome=outcome, receipt=receipt, error=_too_late(claim))
        else:
            error = outcome.error or ProviderError(
                "worker_lost", "the worker had to stop before the answer was whole", cause="broken"
            )
            await self._retry_or_fail(held, call, sent, outcome, receipt, error, try_no)

    async def _retry_or_fail(
        self, held: Held, call: LiveCall, sent: Dispatched, outcome: Outcome, receipt: Receipt,
        error: ProviderError, try_no: int,
    ) -> None:  # fmt: skip
        claim = held.claim
        budget = Budget(
            tries=try_no, max_tries=self.settings.max_tries, calls=sent.call, max_calls=claim.number("max_calls"),
            remaining_s=(sent.deadline_ms - sent.now_ms) / 1000,
            on_break=claim.text("on_crash" if held.reason == "drain" else "on_break"),
        )  # fmt: skip
        decision = decide(error, budget, self.rng)
        match decision:
            case Retry():
                await self._flush(call)
                await until_stored(f"job {claim.id}", lambda: self.engine.requeue(
                    claim, receipt, delay_s=decision.delay_s, reason=error.code, brake_s=decision.brake_s,
                ))  # fmt: skip
            case GiveUp():
                problem = JobError(code=error.code, message=error.message, retryable=decision.retryable)
                await self._end(claim, "failed", call=call, outcome=outcome, receipt=receipt, error=problem)

    async def _flush(self, call: LiveCall) -> None:
        """What arrived before a break belongs to the log too; a `reset` voids it when the next call starts."""
        call.seal()
        while call.dirty:
            for word, last in await until_stored("a flush", lambda: self.engine.append(call.unsent())):
                if word == "lost" or not call.confirm(last):
                    raise LeaseLost(f"job {call.held.claim.id} was lost while its events were written")

    async def _not_sent(self, claim: Claim, sent: Dispatched) -> None:
        match sent.word:
            case "cancel":
                await self._end(claim, "cancelled")
            case "deadline":
                await self._end(claim, "expired", error=_too_late(claim))
            case _:
                message = f"job {claim.id} has used its {claim.number('max_calls')} calls; replay it to try anew"
                await self._end(claim, "failed", error=JobError(code="worker_lost", message=message, retryable=True))

    async def _end(
        self, claim: Claim, state: EndState, *, call: LiveCall | None = None, outcome: Outcome | None = None,
        receipt: Receipt | None = None, error: JobError | None = None,
    ) -> None:  # fmt: skip
        output = call.output(outcome.finish_reason if outcome else None) if call else Output()
        usage = settlement.usage_of(receipt) if receipt and receipt.billed else None
        members = rest(usage=usage, finish_reason=output.finish_reason, error=error)
        first = None if outcome is None or outcome.first_s is None else round(outcome.first_s * 1000)

        async def finish() -> bool:
            frames = call.unsent() if call else []
            end = End(
                state=state, rest=members, output=output_json(output), receipt=receipt, kept=state == "succeeded",
                first_seq=frames[0].seq if frames else 0, frames=[f.data for f in frames],
                out_bytes=call.out_bytes if call else 0, provider_ttft_ms=first,
            )  # fmt: skip
            word, last = await self.engine.finish(claim, end)
            if word == "gap" and (call is None or not call.confirm(last)):
                raise LeaseLost(f"Redis has lost more of job {claim.id} than its worker can send again")
            return word == "ok"

        while not await until_stored(f"job {claim.id}", finish):
            pass


def _no_key(claim: Claim) -> JobError:
    name = claim.text("provider")
    message = f"this worker serves no provider {name!r}; give its key to the workers and replay job {claim.id}"
    return JobError(code="provider_key_missing", message=message, retryable=True)


def _too_late(claim: Claim) -> JobError:
    message = f"job {claim.id} had no whole answer at its deadline; post it again with a later deadline_s"
    return JobError(code="deadline_exceeded", message=message, retryable=True)
