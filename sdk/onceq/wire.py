"""The wire contract: what a client may send to onceq and what it gets back.

The SDK builds these models, the API validates and answers with them, the workers read the same request that
the client wrote. Requests forbid unknown fields; answers and events may grow, so readers ignore what they do not know.

Units: money is integer nano-USD (1 USD = 1,000,000,000), durations are seconds (`_s`), times are RFC 3339 in UTC.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, StringConstraints, model_validator

Status = Literal["queued", "running", "succeeded", "failed", "cancelled", "expired"]
Disposition = Literal["created", "joined", "replayed"]
Durability = Literal["strict", "relaxed"]
Band = Literal["interactive", "standard", "batch"]
Scope = Literal["submit", "read", "cancel", "admin", "operator"]
EventName = Literal[
    "queued",
    "started",
    "delta",
    "reset",
    "retrying",
    "snapshot",
    "succeeded",
    "failed",
    "cancelled",
    "expired",
]
DeltaKind = Literal["text", "reasoning", "tool_call"]
FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "other"]

TERMINAL: Final[frozenset[str]] = frozenset({"succeeded", "failed", "cancelled", "expired"})
"""A job in one of these states never changes again (G1); an event of one of these names is the last of its log (G6)."""

BANDS: Final[tuple[Band, ...]] = ("interactive", "standard", "batch")
SCOPES: Final[tuple[Scope, ...]] = ("submit", "read", "cancel", "admin", "operator")

NANO: Final = 1_000_000_000
"""nano-USD in one US dollar."""

MAX_BODY_BYTES: Final = 8 * 1024 * 1024
"""Largest request body the API reads; more is a 413. Room for a 5 MB prompt with its JSON escapes."""
MAX_BATCH: Final = 1_000
"""Most items of one POST /v1/jobs/batch."""

JOB_ID_PATTERN: Final = r"^job_[0-9a-f]{32}$"
IDEMPOTENCY_KEY_PATTERN: Final = r"^[\x21-\x7e]{1,255}$"

ErrorCode = Literal[
    # the request, answered as problem+json
    "bad_request", "invalid_request", "malformed_json", "malformed_idempotency_key", "malformed_last_event_id",
    "last_event_id_ahead", "unauthorized", "forbidden", "job_not_found", "job_not_ended", "not_found",
    "method_not_allowed", "idempotency_key_reused", "payload_too_large", "unsupported_media_type", "unknown_model",
    "provider_not_served", "rate_limited", "store_unavailable", "store_full", "internal_error",
    # the job, in Job.error
    "provider_bad_request", "provider_auth", "provider_forbidden", "model_not_found", "provider_too_large",
    "content_refused", "provider_rate_limited", "provider_overloaded", "provider_error", "provider_unreachable",
    "provider_timeout", "provider_stalled", "stream_broken", "stream_garbage", "stream_ended_early",
    "unsupported_input", "provider_key_missing", "deadline_exceeded", "queue_timeout", "resume_refused", "worker_lost",
    "poison", "cancelled", "disconnected",
    # the client
    "connection_failed", "stream_lost", "wait_timeout", "not_configured",
]  # fmt: skip

Name = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""A person's word for a user, team or label: printable, no control characters."""
LabelKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,62}$")]
ModelName = Annotated[str, StringConstraints(min_length=1, max_length=300, pattern=r"^[^\x00-\x20\x7f]+$")]


class Request(BaseModel):
    """A value that a client sends: unknown fields are refused, nothing is coerced from another type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())


class Answer(BaseModel):
    """A value that the service sends: may grow, so unknown fields are kept out of the way of old readers."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())


# -- requests ---------------------------------------------------------------------------------------------------


class TextPart(Request):
    """Text inside a message."""

    type: Literal["text"]
    text: str


class ImagePart(Request):
    """An image in a message: a URL that the provider fetches (never onceq), or base64 `data` with its type."""

    type: Literal["image"]
    url: Annotated[str, StringConstraints(pattern=r"^https?://", max_length=8_000)] | None = None
    data: Annotated[str, StringConstraints(min_length=4, pattern=r"^[A-Za-z0-9+/]+={0,2}$")] | None = None
    media_type: Literal["image/png", "image/jpeg", "image/gif", "image/webp"] | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.url is None) == (self.data is None):
            raise ValueError("an image part needs either url or data")
        if self.data is not None and self.media_type is None:
            raise ValueError("an image given as data needs a media_type")
        return self


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class ToolCall(Request):
    """A call of a tool that the model asked for; `arguments` is the JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


class Message(Request):
    """One turn. `tool_calls` belong to an assistant's turn; a `tool` turn answers the call `tool_call_id`."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | Annotated[list[Part], Field(min_length=1, max_length=100)] | None = None
    tool_calls: Annotated[list[ToolCall], Field(min_length=1, max_length=128)] | None = None
    tool_call_id: str | None = None

    @model_validator(mode="after")
    def _fits_role(self) -> Self:
        if self.tool_calls and self.role != "assistant":
            raise ValueError("only an assistant message has tool_calls")
        if (self.role == "tool") != (self.tool_call_id is not None):
            raise ValueError("a tool message, and only it, has a tool_call_id")
        if self.content is None and not self.tool_calls:
            raise ValueError("a message needs content")
        return self


class Tool(Request):
    """A function that the model may call; `parameters` is the JSON Schema of its arguments."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, JsonValue] = Field(default_factory=dict)


class ToolChoice(Request):
    """Forces the one tool that is named."""

    name: str


class ResponseFormat(Request):
    """Asks for JSON: any object, or one that fits `schema` (JSON Schema)."""

    type: Literal["text", "json_object", "json_schema"]
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")] = "answer"
    json_schema: dict[str, JsonValue] | None = Field(default=None, alias="schema")
    strict: bool = True

    @model_validator(mode="after")
    def _schema_where_needed(self) -> Self:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("json_schema, and only it, needs a schema")
        return self


class Timeouts(Request):
    """Clocks of one job in seconds, each instead of the service's own; beside them runs `deadline_s` over all of it.

    `queue_s` from the post to the first start (then `expired`, code `queue_timeout`), `first_byte_s` from a call's
    start to its answer's first byte, `between_bytes_s` between two bytes, `call_s` for a whole call. A call that runs
    out of time may be billed, and is tried again as `max_calls` allows.
    """

    queue_s: Annotated[float, Field(gt=0, le=7 * 86_400)] | None = None
    first_byte_s: Annotated[float, Field(gt=0, le=3_600)] | None = None
    between_bytes_s: Annotated[float, Field(gt=0, le=3_600)] | None = None
    call_s: Annotated[float, Field(gt=0, le=86_400)] | None = None


class JobRequest(Request):
    """`POST /v1/jobs`: one completion that is wanted, exactly one of `prompt` and `messages`.

    `params` are passed to the provider as they are, for what has no common name (`top_p`, `seed`, `thinking`, ...);
    they may not name what onceq itself decides (model, messages, stream, ...).

    `on_crash` says what happens when the worker is lost in mid-call: `retry` calls again, `fail` keeps what there is,
    `resume` goes on with the same call, and the same bill, where OpenAI runs it as a background response (which OpenAI
    then stores); where that can't be gone on with, the job fails, and is never paid twice.

    `model` may be a list: when the provider of the first is down, braked or fails, the job goes on with the next,
    never after the request itself or its content was refused. `not_before` delays the start. With `on_disconnect:
    cancel` the job is cancelled once nobody has followed, polled or posted it for `disconnect_grace_s` seconds.
    """

    model: ModelName | Annotated[list[ModelName], Field(min_length=1, max_length=8)]
    prompt: Annotated[str, StringConstraints(min_length=1)] | None = None
    messages: Annotated[list[Message], Field(min_length=1, max_length=2_000)] | None = None
    system: str | None = None
    max_tokens: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    stop: Annotated[list[Annotated[str, StringConstraints(min_length=1)]], Field(max_length=16)] | None = None
    tools: Annotated[list[Tool], Field(min_length=1, max_length=128)] | None = None
    tool_choice: Literal["auto", "none", "required"] | ToolChoice | None = None
    response_format: ResponseFormat | None = None
    params: dict[str, JsonValue] | None = None

    band: Band = "standard"
    deadline_s: Annotated[float, Field(gt=0, le=7 * 86_400)] | None = None
    not_before: AwareDatetime | None = None
    timeouts: Timeouts | None = None
    max_calls: Annotated[int, Field(ge=1, le=20)] | None = None
    on_crash: Literal["retry", "fail", "resume"] | None = None
    on_break: Literal["retry", "fail"] | None = None
    on_disconnect: Literal["continue", "cancel"] | None = None
    disconnect_grace_s: Annotated[float, Field(ge=1, le=86_400)] = 30.0
    dedupe_window_s: Annotated[int, Field(ge=0, le=86_400)] | None = None
    fresh: bool = False

    user: Name | None = None
    team: Name | None = None
    labels: Annotated[dict[LabelKey, Name], Field(max_length=16)] | None = None

    @model_validator(mode="after")
    def _one_question(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either prompt or messages")
        forbidden = RESERVED_PARAMS & set(self.params or {})
        if forbidden:
            raise ValueError(f"params may not set {', '.join(sorted(forbidden))}: onceq decides it")
        return self

    def turns(self) -> list[Message]:
        """The conversation without `system`; a bare prompt is one user turn."""
        return list(self.messages) if self.messages is not None else [Message(role="user", content=self.prompt)]

    def models(self) -> list[str]:
        """The model that is wanted, and behind it those that may answer instead."""
        return [self.model] if isinstance(self.model, str) else list(self.model)


RESERVED_PARAMS: Final[frozenset[str]] = frozenset({
    "model", "modelId", "messages", "input", "system", "instructions", "stream", "stream_options",
    "background", "store", "n",
    "max_tokens", "max_completion_tokens", "max_output_tokens", "tools", "toolConfig", "tool_choice",
    "inferenceConfig", "temperature", "stop", "stop_sequences", "response_format", "text", "output_config",
    "base_url", "api_key", "extra_headers", "extra_body", "extra_query", "timeout",
})  # fmt: skip
"""Names that `params` may not carry: each has a field of its own, or would change whom or how we call."""


class BatchItem(Request):
    """One job of a batch with its own idempotency key."""

    idempotency_key: Annotated[str, StringConstraints(pattern=IDEMPOTENCY_KEY_PATTERN)] | None = None
    job: JobRequest


class BatchRequest(Request):
    """`POST /v1/jobs/batch`."""

    items: Annotated[list[BatchItem], Field(min_length=1, max_length=MAX_BATCH)]


class ReplayRequest(Request):
    """`POST /v1/jobs/replay`: asks again what ended so and was not replayed before, newest first, at most `limit`.

    `error` is the code of its error, `since` a time of creation; what is left out fits any.
    """

    status: Literal["failed", "expired", "cancelled"] = "failed"
    error: Name | None = None
    team: Name | None = None
    model: ModelName | None = None
    since: AwareDatetime | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_BATCH)] = 100


class Switch(Request):
    """`POST /v1/lanes/pause` and `/resume`: either a lane (a model, or an alias for several) or a band."""

    lane: ModelName | None = None
    band: Band | None = None

    @model_validator(mode="after")
    def _one_thing(self) -> Self:
        if (self.lane is None) == (self.band is None):
            raise ValueError("give either lane or band")
        return self


# -- answers ----------------------------------------------------------------------------------------------------


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
    """What the job cost over all of its calls. `nano_usd` includes `wasted_nano_usd`; null while a call is unpriced."""

    nano_usd: int | None = 0
    usd: str | None = "0"
    wasted_nano_usd: int = 0
    reserved_nano_usd: int = 0
    priced: bool = True


class Timings(Answer):
    """Seconds. `queue_s` created to first start, `ttft_s` created to first token, `generation_s` first token to end."""

    queue_s: float | None = None
    ttft_s: float | None = None
    provider_ttft_s: float | None = None
    generation_s: float | None = None
    total_s: float | None = None


class JobError(Answer):
    """Why a job has no answer: a stable code, a sentence that says what to do, and whether a replay could help."""

    code: str
    message: str
    retryable: bool = False


class Waiting(Answer):
    """Why a queued job does not run, and until when it surely won't; `until` is null where nobody can know.

    `reason`: `not_before`, `lane_paused`, `lane_full` (its requests, tokens or concurrency), or the error code of the
    try before or of the lane's brake (`provider_rate_limited`, ...).
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
    """A job as it stands now.

    `fallbacks` are the models that may still answer instead of `model`. `retry_of` is the job that this one replays,
    `replayed_by` the newest one that replays this one.
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
        from onceq._display import job_html  # the contract must not need the display to be imported

        return job_html(self)


class SubmittedJob(Job):
    """The 202's body: the job, and what this post did (`created` it, `joined` it, or `replayed` a finished one)."""

    disposition: Disposition


class StreamToken(Answer):
    """`POST /v1/jobs/{id}/stream-token`: for a page that follows a job with EventSource, which can send no header.

    `url` has the token in it. It reads the events of this one job, and must be connected to before `expires_at`.
    """

    token: str
    url: str
    expires_at: datetime


class JobPage(Answer):
    """`GET /v1/jobs`, newest first. `next_cursor` is null on the last page."""

    jobs: list[Job]
    next_cursor: str | None = None


class FieldError(Answer):
    """One thing that is wrong with a request: where, and what."""

    loc: str
    message: str


class Problem(Answer):
    """An error answer, `application/problem+json` (RFC 9457), with a stable `code`."""

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    instance: str | None = None
    errors: list[FieldError] | None = None


class BatchAnswerItem(Answer):
    """What became of one item: a job or a problem, never both."""

    job: SubmittedJob | None = None
    problem: Problem | None = None


class BatchAnswer(Answer):
    """The answer to a batch, in the order of its items."""

    items: list[BatchAnswerItem]


class ReplayAnswer(Answer):
    """What became of each: a new job (its `retry_of` says of which) or a problem. `more`: others fit, ask again."""

    items: list[BatchAnswerItem]
    more: bool = False


class Depth(Answer):
    """Jobs by state now; `queued` counts those that wait for a retry too."""

    queued: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0


class Quantiles(Answer):
    """Seconds, from a histogram with buckets of a quarter octave (so within 19 %); null without data."""

    p50: float | None = None
    p95: float | None = None
    count: int = 0


class Totals(Answer):
    """Sums over a period. Real and simulated work are never in one sum.

    `avoided_nano_usd` is what the jobs that joined or replayed an answer would have cost. `causes`: how many jobs ended
    with each error code.
    """

    jobs: int = 0
    joined: int = 0
    replayed: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0
    calls: int = 0
    tries: int = 0
    retries: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    spent_nano_usd: int = 0
    wasted_nano_usd: int = 0
    avoided_nano_usd: int = 0
    unpriced_calls: int = 0
    bill_amplification: float | None = None
    causes: dict[str, int] = Field(default_factory=dict[str, int])
    ttft: Quantiles = Field(default_factory=Quantiles)
    total: Quantiles = Field(default_factory=Quantiles)


CostDimension = Literal["team", "model", "provider", "band", "key", "labels"]


class CostPoint(Answer):
    """One group's totals in one hour or day (UTC), or over all of the time asked for.

    A dimension that was not asked for is empty, as is a team that was not given. Simulated work is always apart.
    """

    at: datetime
    team: str = ""
    model: str = ""
    provider: str = ""
    band: Band | Literal[""] = ""
    key: str = ""
    labels: dict[str, str] = Field(default_factory=dict[str, str])
    simulated: bool = False
    totals: Totals


class Costs(Answer):
    """`GET /v1/costs`: whole hours or days from `since` to `until`, both included as far as they reach."""

    since: datetime
    until: datetime
    interval: Literal["hour", "day", "total"]
    group_by: list[CostDimension]
    points: list[CostPoint]


class LaneInfo(Answer):
    """A lane: provider, account and model, the thing that has a rate limit. Counts are over all workers.

    `limits` holds only those that are set (`requests_per_minute`, `input_tokens_per_minute`,
    `output_tokens_per_minute`, `concurrency`); `learned_limits` are the provider's own, as its answers told them, and
    hold where `limits` sets none (OpenAI's tokens, which count both ways, are taken as input). `running` is null where
    there is no limit at all. `breaker` is `half_open` after five
    failures of the provider in a row: when the brake ends, one job tries it. Nothing starts until `braked_until`.
    """

    lane: str
    paused: bool = False
    braked_until: datetime | None = None
    brake_reason: str | None = None
    breaker: Literal["closed", "half_open"] = "closed"
    failures_in_row: int = 0
    running: int | None = None
    requests_last_minute: int = 0
    input_tokens_last_minute: int = 0
    output_tokens_last_minute: int = 0
    limits: dict[str, int] = Field(default_factory=dict[str, int])
    learned_limits: dict[str, int] = Field(default_factory=dict[str, int])


class Lanes(Answer):
    """`GET /v1/lanes`, newest start first, and the bands that are paused for every lane."""

    lanes: list[LaneInfo]
    paused_bands: list[Band] = Field(default_factory=list[Band])


class WorkerInfo(Answer):
    """A live worker process and what it serves."""

    id: str
    pid: int
    host: str
    running: int
    capacity: int
    providers: list[str]
    seen_at: datetime


class Stats(Answer):
    """`GET /v1/stats`: the caller's tenant now, and its last 24 hours by hour.

    `last_hour` is the current clock hour and the one before it. `waiting_retry` are queued jobs with a time of their
    own, a retry's or `not_before`. `workers` are those of the whole queue. `dead_letters` are failed jobs that nobody
    has replayed yet, `oldest_dead_letter_s` is how long one has waited.
    """

    at: datetime
    durability: Durability
    simulated: bool = False
    depth: Depth
    waiting_retry: int = 0
    oldest_queued_s: float | None = None
    dead_letters: int = 0
    oldest_dead_letter_s: float | None = None
    last_hour: Totals
    last_24h: Totals
    last_24h_simulated: Totals
    hours: list[CostPoint]
    workers: list[WorkerInfo]


class LedgerEntry(Answer):
    """One try, as booked. `outcome` is `ok` or the error code; `billed`: the provider may charge for it."""

    at: datetime
    job: str
    try_no: int
    call: int
    model: str
    outcome: str
    billed: bool
    estimated: bool
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    spent_nano_usd: int | None
    wasted_nano_usd: int
    waste_reason: str | None
    price_version: str
    simulated: bool


class ApiKeyRequest(Request):
    """`POST /v1/keys` (admin): a new API key for the caller's tenant; an operator may name another tenant."""

    name: Name = "key"
    scopes: Annotated[list[Scope], Field(min_length=1)] = ["submit", "read", "cancel"]
    tenant: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")] | None = None


class Health(Answer):
    """`GET /readyz`."""

    status: Literal["ok", "degraded", "unavailable"]
    durability: Durability | None = None
    problems: list[str] = Field(default_factory=list[str])
    version: str = ""


# -- events -----------------------------------------------------------------------------------------------------


class Event(Answer):
    """The data of one event of a job's log. Which fields are set depends on the event's name.

    `delta`: kind, text (and index, id, name for a tool call). `retrying`: reason, retry_at, and model when the job goes
    on with another one. `reset`: reason; the
    text so far is void. `snapshot`: output, for a reader whose part of the log is gone; it has no number of its own.
    A terminal event: status, finish_reason, usage, cost, timings, error, and receipt when it was cancelled.
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
