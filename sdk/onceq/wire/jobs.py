"""A job as clients see it, and the answers that carry jobs."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from onceq._display import job_html, job_markdown
from onceq.wire.budgets import BudgetRefusal
from onceq.wire.phases import Phases, Verdict
from onceq.wire.quote import Quote
from onceq.wire.requests import ToolCall
from onceq.wire.words import Answer, Band, Disposition, Durability, FinishReason, Status


class Urls(Answer):
    """Where to go next, relative to the service's base URL."""

    self: str
    events: str
    cancel: str


class Output(Answer):
    """What the model said. While the job runs it is what has arrived so far and `finish_reason` is null."""

    text: str = ""
    reasoning: str = ""
    tool_calls: list[ToolCall] = Field(default_factory=list[ToolCall])
    finish_reason: FinishReason | None = None


class Usage(Answer):
    """Tokens of the winning call: input includes cached, output includes reasoning. `estimated`: counted by us."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False


class Cost(Answer):
    """What the job cost over all of its calls. `nano_usd` includes `wasted_nano_usd`; null while a call is unpriced.

    `usd` is `nano_usd` in US dollars, as exact decimal text.
    """

    nano_usd: int | None = 0
    usd: str | None = "0"
    wasted_nano_usd: int = 0
    reserved_nano_usd: int = 0
    priced: bool = True


class Timings(Answer):
    """Seconds; null where it did not come to that, or not yet. All but `queue_s` come with the end.

    `queue_s`: from the post until a worker first took the job, whatever it waited for; `phases.queue_s` is only the
    time without a free worker, or held by limits of ours. `ttft_s`: from the post to the first token.
    `provider_ttft_s`: from the last call's start to its first token; `phases` have that wait over all tries.
    `generation_s`: from the job's first token to its end, whatever came between; `phases.generation_s` is only what
    the provider took to write. `total_s`: from the post to the end. `verdict` says who made the job slow or failed;
    null where there is nothing to explain.
    """

    queue_s: float | None = None
    ttft_s: float | None = None
    provider_ttft_s: float | None = None
    generation_s: float | None = None
    total_s: float | None = None
    phases: Phases | None = None
    verdict: Verdict | None = None


class JobError(Answer):
    """Why a job has no answer: a stable code, a sentence that says what to do, and whether a replay could help."""

    code: str
    message: str
    retryable: bool = False


class Waiting(Answer):
    """Why a queued job does not run, and until when it surely won't; `until` is null where nobody can know.

    Null for a moment after a lane was opened again, until a worker has looked at it, and once a cancel is requested;
    in the 202 of a new job, which asks no lane, it says nothing but `not_before`.

    `reason`: `not_before`, `lane_paused`, `band_paused`, `lane_full` (its requests, tokens or concurrency), or the
    error code of the try before or of the lane's brake (`provider_rate_limited`, ...).
    """

    reason: str
    until: datetime | None = None


class CancelReceipt(Answer):
    """What a cancel came to: the tokens that were already written and what they cost, and what was not written.

    `may_still_bill`: the provider had begun and has not told its usage, so that its invoice may differ from the
    estimate that was booked. `saved_nano_usd` is the price of the tokens that `max_tokens` left; null without it.
    """

    output_tokens: int = 0
    spent_nano_usd: int | None = 0
    estimated: bool = False
    may_still_bill: bool = False
    saved_nano_usd: int | None = None


class Job(Answer):
    """A job as it stands now. What has not come yet is null.

    `started_at` is when its first call was made. `expires_at` is when the job and its answer are deleted; null before
    its end, so it is not the deadline. `output` is what has arrived so far, `usage` comes with the end.

    `tries` counts all requests that were made to providers; `calls` counts those of them that may be billed, so without
    what a provider turned away. `error` says why a job has `failed` or is `expired`, and why one was `cancelled` that
    nobody followed. `cancel_requested`: its worker was told to stop. `receipt` is what a cancel came to.

    `fallbacks` are the models that may still answer instead of `model`. `retry_of` is the job that this one replays,
    `replayed_by` the newest one that replays this one. `durability` is that of the service now: `strict` where its
    Redis keeps through a crash what was accepted, else `relaxed`.
    """

    id: str
    status: Status
    model: str
    provider: str = ""
    team: str | None = None
    user: str | None = None
    labels: dict[str, str] = Field(default_factory=dict[str, str])
    band: Band = "standard"
    simulated: bool = False
    created_at: datetime
    started_at: datetime | None = None
    first_token_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    output: Output | None = None
    usage: Usage | None = None
    cost: Cost = Field(default_factory=Cost)
    timings: Timings = Field(default_factory=Timings)
    calls: int = 0
    tries: int = 0
    error: JobError | None = None
    waiting: Waiting | None = None
    receipt: CancelReceipt | None = None
    retry_of: str | None = None
    replayed_by: str | None = None
    fallbacks: list[str] = Field(default_factory=list[str])
    cancel_requested: bool = False
    urls: Urls
    durability: Durability = "strict"

    @property
    def text(self) -> str:
        """The answer's text, or what has arrived of it; empty where there is none."""
        return self.output.text if self.output else ""

    def _repr_html_(self) -> str:
        return job_html(self)

    def _repr_markdown_(self) -> str:
        return job_markdown(self)


class SubmittedJob(Job):
    """The 202's body: the job, and what this post did (`created` it, `joined` it, or `replayed` a finished one).

    `quote` is what a new job may cost and when it may start; null for one that was there, as the post costs nothing.
    """

    disposition: Disposition
    quote: Quote | None = None


class StreamToken(Answer):
    """`POST /v1/jobs/{id}/stream-token`: for a page that follows a job with EventSource, which can send no header.

    `url` has the token in it. It reads the events of this one job, and must be connected to before `expires_at`.
    """

    token: str
    url: str
    expires_at: datetime


class JobPage(Answer):
    """`GET /v1/jobs`, newest first. `next_cursor` is null on the last page.

    A page does bounded work: it looks at some thousand jobs (`looked_at`), back to those made at `looked_back_to`
    (null: it saw none). Where few fit it may hold few or none, and yet `next_cursor` goes on from there.
    """

    jobs: list[Job]
    next_cursor: str | None = None
    looked_at: int = 0
    looked_back_to: datetime | None = None


class FieldError(Answer):
    """One thing that is wrong with a request: where, and what."""

    loc: str
    message: str


class Problem(Answer):
    """An error answer, `application/problem+json` (RFC 9457), with a stable `code`.

    With the code `budget_exceeded`, `budget` is the one that has no room.
    """

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    instance: str | None = None
    errors: list[FieldError] | None = None
    budget: BudgetRefusal | None = None


class BatchAnswerItem(Answer):
    """What became of one item: a job or a problem, never both."""

    job: SubmittedJob | None = None
    problem: Problem | None = None


class BatchAnswer(Answer):
    """The answer to a batch, in the order of its items."""

    items: list[BatchAnswerItem]


class BatchCancelled(Answer):
    """What a cancel of a batch did: waiting jobs were `cancelled`, the workers of running ones `requested` to stop."""

    cancelled: int
    requested: int


class ReplayAnswer(Answer):
    """What became of each job: a new one, whose `retry_of` names it, or a problem. `more`: other jobs fit too."""

    items: list[BatchAnswerItem]
    more: bool = False
