"""The end of a job: what its readers see last, what the ledger books, and what the log says of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import structlog

from onceq.wire import CancelReceipt, JobError, Output
from onceq_service.store import Engine, LeaseLost
from onceq_service.store.engine import Claim, Dispatched, End, EndState, Receipt
from onceq_service.worker import problems, settlement
from onceq_service.worker.attempt import Attempt
from onceq_service.worker.spans import Spans
from onceq_service.worker.store_retry import StoreRetry
from onceq_service.worker.terminal import output_json, terminal_members

log = structlog.get_logger("onceq.worker")


class LaneFeedback(NamedTuple):
    """What the last call of a job that failed tells of its lane: how long to hold it back, and whether it is down."""

    brake_s: float = 0.0
    trips: bool = True


NO_FEEDBACK = LaneFeedback()


@dataclass(frozen=True)
class Finisher:
    """Ends jobs; waits for a Redis that is away."""

    engine: Engine
    store_retry: StoreRetry
    spans: Spans

    async def end(
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

        while not await self.store_retry.stored(claim.id, finish):
            pass
        self.spans.ended(state, error)
        if error is not None:
            log.warning(f"a job {state}", **about(claim, attempt, error.code))

    async def not_sent(self, claim: Claim, sent: Dispatched) -> None:
        """The record was refused: the job must not be called any more, or not yet."""
        said = await self.store_retry.stored(claim.id, lambda: self.engine.saved_output(claim))  # of the calls before
        match sent.word:
            case "cancel":
                await self.end(claim, "cancelled", said=said)
            case "deadline":
                await self.end(claim, "expired", error=problems.too_late(claim), said=said)
            case "budget_wait":
                at_ms = int(sent.why["at"])
                if not await self.store_retry.stored(claim.id, lambda: self.engine.defer(claim, at_ms)):
                    await self.end(claim, "cancelled", said=said)
            case "budget":
                await self.end(claim, "failed", error=problems.no_budget(claim, sent.why), said=said)
            case "max_cost":
                await self.end(claim, "failed", error=problems.too_expensive(claim), said=said)
            case _:
                message = f"job {claim.id} has used its {claim.number('max_calls')} calls; replay it to try anew"
                await self.end(
                    claim, "failed", error=JobError(code="worker_lost", message=message, retryable=True), said=said
                )


def about(claim: Claim, attempt: Attempt | None, code: str, *, in_s: float | None = None) -> dict[str, object]:
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
