"""One try at a provider, and what may follow from how it ended."""

from __future__ import annotations

from dataclasses import dataclass

from onceq.wire import JobRequest
from onceq_service.providers.base import Provider, ProviderError, Resume
from onceq_service.settings import PriceConfig
from onceq_service.store.engine import CallPrices, Claim, Dispatched, Receipt
from onceq_service.worker import settlement
from onceq_service.worker.call import LiveCall
from onceq_service.worker.claimed import ClaimedJob
from onceq_service.worker.result import CallResult
from onceq_service.worker.stopwatch import Stopwatch

CONNECTION = frozenset({
    "stream_broken", "stream_ended_early", "stream_garbage", "provider_stalled", "provider_timeout", "worker_lost",
})  # fmt: skip
"""What happens to a connection, not to the answer behind it."""
MOST_TAKEOVERS = 20
"""Times that one call is taken up again; waiting longer each time, they reach over some minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try under way: the held job, its provider, what dispatch answered, and what has arrived."""

    job: ClaimedJob
    provider: Provider
    model_id: str
    in_bytes: int
    number: int
    sent: Dispatched
    call: LiveCall
    result: CallResult
    request: JobRequest
    prices: CallPrices
    watch: Stopwatch
    local: PriceConfig | None = None

    @property
    def claim(self) -> Claim:
        """The job's claim."""
        return self.job.claim

    def receipt(self) -> Receipt:
        """What it came to, with what the relay has not sent yet."""
        self.call.seal()
        return settlement.settle(
            self.provider,
            self.model_id,
            self.in_bytes,
            self.result,
            self.call,
            self.job.reason,
            self.local,
            max_tokens=self.request.max_tokens,
            call_bound=self.claim.number("call_bound") if "call_bound" in self.claim.fields else None,
        )

    def remaining_s(self) -> float:
        """Seconds to the job's deadline: what Redis said at the call's record, less what has passed here since."""
        return (self.sent.deadline_ms - self.sent.now_ms) / 1000 - self.watch.age_s()

    @property
    def wants_no_second(self) -> bool:
        """Whether the call is the job's last, should it break now."""
        if self.job.reason == "drain":
            return self.claim.text("on_crash") != "retry"
        return self.claim.text("on_break") == "fail"

    def resume(self) -> Resume | None:
        """The background response to go on with."""
        if self.sent.word != "resume":
            return None
        cursor = self.claim.fields.get("cursor")
        return Resume(self.claim.text("resp"), -1 if cursor is None else int(cursor), self.call.output(None))

    def goes_on(self, error: ProviderError) -> bool:
        """Whether the answer is still being written at the provider, to be taken up again without a second bill."""
        too_often = self.claim.number("takeovers") >= MOST_TAKEOVERS
        if self.result.response is None or too_often or self.job.reason == "timeout":
            return False
        return error.code in CONNECTION or self.out_of_reach(error)

    def out_of_reach(self, error: ProviderError) -> bool:
        """Whether the host turned us away while it has our response: another call would be a second bill."""
        return self.result.response is not None and error.cause == "refused"
