"""What is summed up over jobs: depth, totals, costs, ledger rows; and the state of lanes, workers and the service."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from onceq.wire.phases import Verdict
from onceq.wire.words import Answer, Band, Durability


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

    `cached_tokens` and `cache_write_tokens` are input that was read from a provider's cache and written to it.
    `estimated_nano_usd` is the part of `spent_nano_usd` of which no provider told the usage: rows that are `estimated`.
    `wasted_by_reason` is `wasted_nano_usd` by why the output is in no answer: a cause, or `cancelled`.
    `job_costs` is a histogram of what the jobs that ended cost, all of their calls: nano-USD at most -> jobs, the ones
    of unknown price left out; an edge is 1.19 times the one before, so each job is told within 19 %.
    `avoided_nano_usd` is what the jobs that joined or replayed an answer would have cost. `causes`: how many jobs ended
    with each error code. `phases` is seconds by phase, over the jobs that ended; `verdicts` how many of them have each
    verdict.
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
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    spent_nano_usd: int = 0
    wasted_nano_usd: int = 0
    estimated_nano_usd: int = 0
    avoided_nano_usd: int = 0
    unpriced_calls: int = 0
    bill_amplification: float | None = None
    causes: dict[str, int] = Field(default_factory=dict[str, int])
    wasted_by_reason: dict[str, int] = Field(default_factory=dict[str, int])
    verdicts: dict[Verdict, int] = Field(default_factory=dict[Verdict, int])
    phases: dict[str, float] = Field(default_factory=dict[str, float])
    ttft: Quantiles = Field(default_factory=Quantiles)
    total: Quantiles = Field(default_factory=Quantiles)
    job_costs: dict[int, int] = Field(default_factory=dict[int, int])


CostDimension = Literal["team", "model", "provider", "band", "key", "labels"]


class CostPoint(Answer):
    """One group's totals in one hour or day (UTC), or over all of the time asked for.

    A dimension that was not asked for is empty, as is a team that was not given. Simulated work is always apart. Of the
    labels, those are here that the service sums up (`ONCEQ_LABEL_KEYS`; by default `prompt` and `version`).
    `restated_nano_usd` is what the billed tokens would cost at the prices of the time that was asked for, by each
    model's price for short prompts (the ledger's rows have it by their own length); null: not asked for, or a model
    has none.
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
    restated_nano_usd: int | None = None


class Costs(Answer):
    """`GET /v1/costs`: sums by hour or day (UTC). Those that `since` and `until` fall into are counted whole."""

    since: datetime
    until: datetime
    interval: Literal["hour", "day", "total"]
    group_by: list[CostDimension]
    points: list[CostPoint]


class LaneInfo(Answer):
    """A lane: provider, account and model, the thing that has a rate limit. Counts are over all workers.

    `limits` holds only those that are set (`requests_per_minute`, `input_tokens_per_minute`,
    `output_tokens_per_minute`, `concurrency`); `learned_limits` are the provider's own, as its answers told them, and
    hold where `limits` sets none (OpenAI's tokens, which count both ways, are taken as input). `running` and what
    started in the last minute are null where nobody counts, as there is no limit at all, and for keys without the scope
    `operator`. `breaker` is `half_open` after five failures of the provider in a row: when the brake ends, one job
    tries it. Nothing starts until `braked_until`.
    """

    lane: str
    paused: bool = False
    braked_until: datetime | None = None
    brake_reason: str | None = None
    breaker: Literal["closed", "half_open"] = "closed"
    failures_in_row: int = 0
    running: int | None = None
    requests_last_minute: int | None = None
    input_tokens_last_minute: int | None = None
    output_tokens_last_minute: int | None = None
    limits: dict[str, int] = Field(default_factory=dict[str, int])
    learned_limits: dict[str, int] = Field(default_factory=dict[str, int])


class Lanes(Answer):
    """`GET /v1/lanes`, newest start first, and the bands that are paused for every lane.

    Only an operator sees all of them, and their counts; others those that their own tenant uses.
    """

    lanes: list[LaneInfo]
    paused_bands: list[Band] = Field(default_factory=list[Band])


class Fleet(Answer):
    """The live worker processes of the whole queue, together: the jobs that they run and could run at once."""

    processes: int = 0
    running: int = 0
    capacity: int = 0
    providers: list[str] = Field(default_factory=list[str])


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
    own, a retry's or `not_before`. `fleet` sums up the workers of the whole queue; which they are (`workers`) is told
    to keys with the scope `operator` alone. `dead_letters` are failed jobs that nobody has replayed yet,
    `oldest_dead_letter_s` is how long one has waited.
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
    fleet: Fleet = Field(default_factory=Fleet)
    workers: list[WorkerInfo] = Field(default_factory=list[WorkerInfo])


class LedgerEntry(Answer):
    """One try, as booked. `outcome` is `ok`, the error code or `correction`; `billed`: the provider may charge for it.

    `correction`: what a worker that had lost the job to another one knew of the same try beyond its row, tokens and
    money to be added to that; no further call, so not `billed`.

    `reserved_nano_usd` is what was held for it in its budgets, 0 without any.

    `id` orders a tenant's rows and is a cursor. `restated_nano_usd` is what the tokens would cost at the prices of the
    time that was asked for (null: not asked for, or no price then), cache writes by the price of the short cache.
    """

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
    id: str = ""
    team: str = ""
    key: str = ""
    user: str = ""
    labels: dict[str, str] = Field(default_factory=dict[str, str])
    band: str = ""
    cache_write_tokens: int = 0
    restated_nano_usd: int | None = None
    restated_price_version: str | None = None
    reserved_nano_usd: int = 0


class Health(Answer):
    """`GET /readyz`."""

    status: Literal["ok", "degraded", "unavailable"]
    durability: Durability | None = None
    problems: list[str] = Field(default_factory=list[str])
    version: str = ""
