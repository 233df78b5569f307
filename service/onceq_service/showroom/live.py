"""A job of the showroom that has not ended, what its readers have of it, and how it ends; pure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from onceq.wire import CancelReceipt, JobError, Output
from onceq_service.providers.base import Delta, ProviderError
from onceq_service.showroom.plan import Post
from onceq_service.showroom.provider import Course
from onceq_service.showroom.words import answer, pieces
from onceq_service.store.engine import Claim, Dispatched, End, EndState, Frame, Receipt
from onceq_service.worker.frames import delta_frame
from onceq_service.worker.problems import no_budget, too_late
from onceq_service.worker.retry import GiveUp
from onceq_service.worker.settlement import usage_of
from onceq_service.worker.terminal import output_json, terminal_members


@dataclass(slots=True)
class LiveJob:
    """`turn` grows with whatever happens to the job: what was planned before is void then. Times are ms.

    `pieces`: parts of the present call's answer that readers don't have yet, `said` what they have.
    """

    id: str
    tenant: str
    post: Post
    deadline_ms: int
    turn: int = 0
    claim: Claim | None = None
    course: Course | None = None
    began_ms: int = 0
    spoke_ms: int = 0
    seq: int = 0
    said: str = ""
    pieces: list[str] = field(default_factory=list[str])

    @property
    def lost(self) -> bool:
        """Whether its worker dies in this try."""
        return self.course is not None and self.course.lost

    @property
    def out_bytes(self) -> int:
        """UTF-8 bytes that came in this try."""
        return len((self.said + "".join(self.pieces)).encode())

    def begins(self, claim: Claim, at_ms: int, text: str, parts: int) -> None:
        """A try begins; its text will come in so many parts."""
        self.began_ms = self.spoke_ms = at_ms
        self.seq = claim.number("seq") + 1  # the event that it starts is one
        self.said, self.pieces = "", list(pieces(text, parts)) if text else []

    def says(self, claim: Claim, at_ms: int) -> Frame:
        """The next part, as a frame."""
        frame = self._frame(claim, self.pieces.pop(0))
        self.spoke_ms = at_ms
        return frame

    def rest(self, claim: Claim) -> tuple[int, Sequence[bytes]]:
        """The number of the first frame that readers lack (0: they lack none), and all such frames."""
        first = self.seq + 1 if self.pieces else 0
        frames = [self._frame(claim, piece).data for piece in self.pieces]
        self.pieces = []
        return first, frames

    def stops(self, course: Course, at_ms: int) -> None:
        """The call is closed now: of its answer so much has come as its time has passed."""
        self.course = course.until(at_ms - self.began_ms)
        whole = self.said + "".join(self.pieces)
        keep = round(len(whole) * self.course.share)
        self.pieces = [whole[len(self.said) : keep]] if keep > len(self.said) else []

    def is_not_called(self) -> None:
        """The call that was about to begin is not made."""
        self.turn += 1
        self.course, self.pieces = None, []

    def again(self) -> Post:
        """Its post, asked once more by hand: nobody cancels that."""
        return replace(self.post, cancel_ms=None)

    def _frame(self, claim: Claim, text: str) -> Frame:
        self.seq, self.said = self.seq + 1, self.said + text
        call = claim.number("calls") + 1
        data = delta_frame(self.id.encode(), self.seq, call, Delta("text", text))
        return Frame(self.id, claim.fence, self.seq, len(self.said.encode()), data)


def answer_of(post: Post, course: Course, rng: random.Random) -> str:
    """What arrives of the answer in a try."""
    if course.share == 0:
        return ""
    whole = answer(post.tokens, rng)
    return whole if course.share == 1 else whole[: max(1, round(len(whole) * course.share))]


def whole_end(job: LiveJob, claim: Claim, receipt: Receipt) -> End:
    """The answer is there."""
    return _end(
        job, claim, "succeeded", receipt, terminal_members(usage=usage_of(receipt), finish_reason="stop"), finished=True
    )


def failed_end(job: LiveJob, claim: Claim, error: ProviderError, receipt: Receipt, give_up: GiveUp) -> End:
    """Nobody tries again."""
    problem = JobError(code=error.code, message=error.message, retryable=give_up.retryable)
    members = terminal_members(usage=usage_of(receipt) if receipt.billed else None, error=problem)
    return replace(_end(job, claim, "failed", receipt, members), brake_s=give_up.brake_s)


def unsent_end(job: LiveJob, claim: Claim, sent: Dispatched) -> End:
    """The call was not made: its deadline came first, or no budget has room for it."""
    if sent.word == "deadline":
        return _end(job, claim, "expired", None, terminal_members(error=too_late(claim)))
    return _end(job, claim, "failed", None, terminal_members(error=no_budget(claim, sent.why)))


def cancelled_end(job: LiveJob, claim: Claim, receipt: Receipt | None) -> End:
    """Its worker has let go of it; without a receipt there was no call."""
    if receipt is None:
        return _end(job, claim, "cancelled", None, terminal_members(receipt=CancelReceipt()))
    told = CancelReceipt(
        output_tokens=receipt.output_tokens, spent_nano_usd=receipt.spent_nano_usd, estimated=True, may_still_bill=True
    )
    return _end(job, claim, "cancelled", receipt, terminal_members(usage=usage_of(receipt), receipt=told))


def _end(
    job: LiveJob, claim: Claim, state: EndState, receipt: Receipt | None, members: bytes, *, finished: bool = False
) -> End:
    first, frames = job.rest(claim)
    course, said = job.course, Output(text=job.said, finish_reason="stop" if finished else None)
    return End(
        state=state, rest=members, output=output_json(said),
        receipt=receipt, kept=finished, first_seq=first, frames=frames, out_bytes=len(job.said.encode()),
        provider_ttft_ms=course.connect_ms + course.ttft_ms if course and course.share else None,
        measured=course.measured if course else "",
    )  # fmt: skip
