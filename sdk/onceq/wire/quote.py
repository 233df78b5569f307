"""What a job may cost and when it may start, told before it runs: `POST /v1/quote`, and in the 202 of a new job."""

from __future__ import annotations

from datetime import datetime

from onceq.wire.words import Answer


class CostQuote(Answer):
    """Bounds of a job's cost in nano-USD; what is booked is never above `upper_nano_usd`.

    `call_upper_nano_usd` bounds one call, `upper_nano_usd` (and `upper_usd`, decimal text) all calls that the job may
    make, or its `max_cost_usd` where that is less. Both are null where nothing is known to bound a call: `unbounded`
    says why.
    `lower_nano_usd` is 0: a job that is cancelled before its call, or joins another, costs nothing.
    `expected_nano_usd` is a call with as many tokens as your tenant's answers of the model had in the last day; null
    where there were none, and in a 202.
    """

    lower_nano_usd: int = 0
    expected_nano_usd: int | None = None
    call_upper_nano_usd: int | None = None
    upper_nano_usd: int | None = None
    upper_usd: str | None = None
    unbounded: str | None = None


class Quote(Answer):
    """What a job may cost, how many wait before it, and when it may start.

    `jobs_ahead` wait for the same model in this band or those before it, up to a second ago; null beyond reckoning.
    `expected_start_at` goes by how many jobs of the model ended in the last minute; null where nobody can know: no
    worker, a pause, or a queue from which nothing has ended. `refused` is the code with which a post would be refused
    for its cost.
    """

    cost: CostQuote
    jobs_ahead: int | None = None
    expected_start_at: datetime | None = None
    refused: str | None = None
