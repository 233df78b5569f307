"""What a client may send: a job, a batch, a replay, a switch, a key. Unknown fields are refused."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import ConfigDict, Field, JsonValue, StringConstraints, model_validator

from onceq.wire.words import (
    IDEMPOTENCY_KEY_PATTERN,
    MAX_BATCH,
    Band,
    BatchId,
    LabelKey,
    ModelName,
    Moment,
    Name,
    Request,
    Scope,
    TenantName,
)


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

    A call that runs out of time may be billed, and is made again as `max_calls` allows, whatever `on_break` says.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    queue_s: Annotated[float, Field(gt=0, le=7 * 86_400)] | None = None
    """From the post to the first start; then the job is `expired`, code `queue_timeout`."""
    first_byte_s: Annotated[float, Field(gt=0, le=3_600)] | None = None
    """From a call's start to the first byte of its answer.
    If not given, the provider's (120; `first_byte_s` in onceq.toml)."""
    between_bytes_s: Annotated[float, Field(gt=0, le=3_600)] | None = None
    """Between two bytes of an answer. If not given, the provider's (60; `between_bytes_s` in onceq.toml)."""
    call_s: Annotated[float, Field(gt=0, le=86_400)] | None = None
    """For a whole call."""


RESERVED_PARAMS: Final[frozenset[str]] = frozenset({
    "model", "modelId", "messages", "input", "system", "instructions", "stream", "stream_options",
    "background", "store", "n",
    "max_tokens", "max_completion_tokens", "max_output_tokens", "tools", "toolConfig", "tool_choice",
    "inferenceConfig", "temperature", "stop", "stop_sequences", "response_format", "text", "output_config",
    "base_url", "api_key", "extra_headers", "extra_body", "extra_query", "timeout",
})  # fmt: skip
"""Names that `params` may not carry: each has a field of its own, or would change whom or how we call."""


class JobRequest(Request):
    """`POST /v1/jobs`: one completion that is wanted, exactly one of `prompt` and `messages`.

    `params` are passed to the provider as they are, for what has no common name (`top_p`, `seed`, `thinking`, ...);
    they may not name what onceq itself decides (model, messages, stream, ...).

    `on_crash` says what happens when the worker is lost in mid-call: `retry` calls again, `fail` keeps what there is,
    `resume` goes on with the same call, and the same bill, where OpenAI runs it as a background response (which OpenAI
    then stores); where that can't be gone on with, the job fails, and is never paid twice.

    `model` may be a list: when the provider of the first is down, braked or fails, the job goes on with the next,
    never after the request itself or its content was refused. `max_cost_usd` is what all calls of the job may cost
    together, and hard: no call is made that could pass it; it needs a model with a price and an answer of known length.
    `not_before` delays the start. With `on_disconnect: cancel` the job is cancelled once nobody has followed (it or its
    batch), polled or posted it for `disconnect_grace_s` seconds. Of several posts the longest grace holds; one without
    that wish ends it, since its sender wants the answer whoever follows it.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    model: ModelName | Annotated[list[ModelName], Field(min_length=1, max_length=8)]
    """`<provider>/<model id>`, or an alias of the service; of a list the first, or where it can't those after it."""
    prompt: Annotated[str, StringConstraints(min_length=1)] | None = None
    """One user turn."""
    messages: Annotated[list[Message], Field(min_length=1, max_length=2_000)] | None = None
    """The turns of a conversation, instead of a prompt."""
    system: str | None = None
    """The system prompt."""
    max_tokens: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    """Most tokens of the answer; one that is cut there has the finish_reason `length`. Without it the provider decides.
    Anthropic takes no request without it: onceq sends 4,096 then, plus the budget of `thinking`."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """0 to 2; without it the provider decides."""
    stop: Annotated[list[Annotated[str, StringConstraints(min_length=1)]], Field(max_length=16)] | None = None
    """Up to 16 texts, at each of which the answer ends."""
    tools: Annotated[list[Tool], Field(min_length=1, max_length=128)] | None = None
    """Functions that the model may call."""
    tool_choice: Literal["auto", "none", "required"] | ToolChoice | None = None
    """Whether it may, must or must not call one, or which it must."""
    response_format: ResponseFormat | None = None
    """JSON instead of text."""
    params: dict[str, JsonValue] | None = None
    """More parameters for the provider, as they are."""

    band: Band = "standard"
    """Who starts first: `interactive`, then `standard`, then `batch`; none waits for ever."""
    deadline_s: Annotated[float, Field(gt=0, le=7 * 86_400)] | None = None
    """Seconds from the post until the job is `expired`, waits and calls included.
    If not given, the service's default (86,400; ONCEQ_DEADLINE_S)."""
    not_before: Moment | None = None
    """The earliest start, a time with its zone."""
    timeouts: Timeouts | None = None
    """Clocks of single steps, in seconds."""
    max_calls: Annotated[int, Field(ge=1, le=20)] | None = None
    """Most calls that may be billed, the first one included; a 429 is none.
    If not given, the service's default (3; ONCEQ_MAX_CALLS)."""
    max_cost_usd: Annotated[float, Field(ge=1e-9, le=1_000_000)] | None = None
    """US dollars that all calls may cost together."""
    on_crash: Literal["retry", "fail", "resume"] | None = None
    """When a worker is lost in mid-call. `retry` if not given."""
    on_break: Literal["retry", "fail"] | None = None
    """When the provider breaks off an answer: `retry` calls again, `fail` keeps what there is. `retry` if not given.
    An answer that does not come in time (`first_byte_s`, `call_s`) is asked for again whatever this says;
    `max_calls: 1` rules out every second call."""
    on_disconnect: Literal["continue", "cancel"] | None = None
    """When nobody follows any more. `continue` if not given."""
    disconnect_grace_s: Annotated[float, Field(ge=1, le=86_400)] = 30.0
    """Seconds without a follower before `on_disconnect: cancel` cancels."""
    dedupe_window_s: Annotated[int, Field(ge=0, le=86_400)] | None = None
    """Seconds after its answer in which an equal request replays it; 0 for never. If not given: 0 with an idempotency
    key, else the service's default (600; ONCEQ_DEDUPE_WINDOW_S). The Python SDK sends 600 itself, without a key."""
    fresh: bool = False
    """Asks for a new answer, whatever was asked before."""

    user: Name | None = None
    """Who asks, for lists and reports; the same question of another user is another job."""
    team: Name | None = None
    """On whose account, for lists, reports and budgets."""
    labels: Annotated[dict[LabelKey, Name], Field(max_length=16)] | None = None
    """Up to 16 names with values, for lists, reports and budgets."""

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
        """The model that is wanted, then those that may answer instead."""
        return [self.model] if isinstance(self.model, str) else list(self.model)


class BatchItem(Request):
    """One job of a batch with its own idempotency key.

    `create: false` joins or replays a job that is there, and makes none: without one it is a `job_not_found`.
    """

    idempotency_key: Annotated[str, StringConstraints(pattern=IDEMPOTENCY_KEY_PATTERN)] | None = None
    create: bool = True
    job: JobRequest


class BatchRequest(Request):
    """`POST /v1/jobs/batch`.

    `batch` is an id of your choice, within your tenant: the jobs of all posts that name it, made or found, are followed
    together by `GET /v1/events?batch=<id>`, and cancelled by `POST /v1/batches/<id>/cancel`.
    """

    batch: BatchId | None = None
    items: Annotated[list[BatchItem], Field(min_length=1, max_length=MAX_BATCH)]


class ReplayRequest(Request):
    """`POST /v1/jobs/replay`: replays the newest jobs that ended in `status` and have not been replayed yet.

    At most `limit` of them. `error` is the code of a job's error, `since` a time of creation; what is left out fits
    any.
    """

    status: Literal["failed", "expired", "cancelled"] = "failed"
    error: Name | None = None
    team: Name | None = None
    model: ModelName | None = None
    since: Moment | None = None
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


class ApiKeyRequest(Request):
    """`POST /v1/keys` (admin): a new API key for the caller's tenant; an operator may name another tenant."""

    name: Name = "key"
    scopes: list[Scope] = Field(default=["submit", "read", "cancel"], min_length=1)
    tenant: TenantName | None = None
