"""One call of a job in this worker's memory: what arrived, what readers have been sent, what is still to send.

The frames of the call are kept until the job ends, so that what a restarted Redis lost can be sent again.
"""

from __future__ import annotations

from collections.abc import Sequence

from onceq.wire import FinishReason, Output, ToolCall
from onceq_service.providers.base import Delta
from onceq_service.store.engine import Frame
from onceq_service.worker.claimed import ClaimedJob
from onceq_service.worker.frames import coalesce, delta_frame


class LiveCall:
    """The answer as it grows. `base` is the log's last number before this call's first delta."""

    def __init__(self, job: ClaimedJob, call: int, base: int) -> None:
        self.job, self.call, self.base = job, call, base
        self.frames: list[bytes] = []
        self.sent = 0
        """Frames that Redis has confirmed."""
        self.settled = False
        """Whether the relay has let go of it; what is unsent goes with the job's end then."""
        self.out_bytes = 0
        self._pending: list[Delta] = []
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._tools: dict[int, list[str]] = {}
        self._cursors: list[int] = []

    @classmethod
    def taken_up(cls, job: ClaimedJob, call: int, base: int, said: Output) -> LiveCall:
        """A call that another worker had begun, with what readers have of it."""
        live = cls(job, call, base)
        live._text, live._reasoning = [said.text], [said.reasoning]
        live._tools = {n: [c.id, c.name, c.arguments] for n, c in enumerate(said.tool_calls)}
        live.out_bytes = job.claim.number("out_bytes")
        return live

    def add(self, deltas: Sequence[Delta]) -> None:
        """Takes in what a read of the provider's socket gave."""
        self._pending += deltas

    @property
    def begun(self) -> bool:
        """Whether anything has arrived."""
        return bool(self.frames or self._pending)

    @property
    def dirty(self) -> bool:
        """Whether readers lack something."""
        return bool(self._pending) or self.sent < len(self.frames)

    def seal(self) -> None:
        """Encodes what is pending as frames with numbers of their own; from here on they never change."""
        job = self.job.claim.id.encode()
        for delta in coalesce(self._pending):
            self._keep(delta)
            self._cursors.append(delta.at)
            self.frames.append(delta_frame(job, self.base + len(self.frames) + 1, self.call, delta))
        self._pending.clear()

    def _keep(self, delta: Delta) -> None:
        self.out_bytes += len(delta.text.encode("utf-8", "surrogatepass"))
        if delta.kind == "text":
            self._text.append(delta.text)
        elif delta.kind == "reasoning":
            self._reasoning.append(delta.text)
        else:
            tool = self._tools.setdefault(delta.index, ["", "", ""])
            tool[0], tool[1] = delta.id or tool[0], delta.name or tool[1]
            tool[2] += delta.text

    def unsent(self) -> list[Frame]:
        """Frames that Redis has not confirmed."""
        claim = self.job.claim
        first = self.base + self.sent + 1
        rest = enumerate(zip(self.frames[self.sent :], self._cursors[self.sent :], strict=True), first)
        return [Frame(claim.id, claim.fence, n, self.out_bytes, data, cursor) for n, (data, cursor) in rest]

    def confirm(self, last: int) -> bool:
        """Redis's log ends at number `last`; False when it has lost more than this call can send again."""
        self.sent = min(len(self.frames), last - self.base)
        return self.sent >= 0

    def output(self, finish_reason: FinishReason | None) -> Output:
        """What has arrived, as the job's output."""
        self.seal()
        tools = [ToolCall(id=t[0], name=t[1], arguments=t[2]) for _, t in sorted(self._tools.items())]
        return Output(
            text="".join(self._text), reasoning="".join(self._reasoning), tool_calls=tools, finish_reason=finish_reason
        )
