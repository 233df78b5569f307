"""The data of the events of a job's log."""

from __future__ import annotations

from datetime import datetime

from onceq.wire.jobs import CancelReceipt, Cost, JobError, Output, Timings, Usage
from onceq.wire.words import Answer, DeltaKind, FinishReason, Status


class Event(Answer):
    """The data of one event of a job's log. Which fields are set depends on the event's name.

    `delta`: kind, text (and index, id, name for a tool call). `retrying`: reason, retry_at, and model when the job goes
    on with another one. `reset`: reason; the
    text so far is void. `snapshot`: output, for a reader whose part of the log is gone; it has no number of its own.
    A terminal event: status, finish_reason, usage, cost, timings, error, and receipt when it was cancelled.
    In a batch's stream it has the output too, and `seq` stays the number in the job's own log; the end of a job whose
    result has lapsed has job and status alone.
    """

    job: str
    seq: int = 0
    call: int = 0
    kind: DeltaKind | None = None
    text: str = ""
    index: int = 0
    id: str | None = None
    name: str | None = None
    reason: str | None = None
    retry_at: datetime | None = None
    output: Output | None = None
    status: Status | None = None
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    cost: Cost | None = None
    timings: Timings | None = None
    calls: int | None = None
    error: JobError | None = None
    model: str | None = None
    receipt: CancelReceipt | None = None
