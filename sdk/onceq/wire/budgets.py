"""Budgets: what a tenant, or a part of its work, may spend; and how each of them stands."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from onceq.wire.words import Answer, LabelKey, ModelName, Name, Request, TenantName

BudgetPeriod = Literal["hour", "day", "month", "total"]
"""What a limit is for: each calendar hour, day or month in the budget's time zone, or all time together."""
BudgetMode = Literal["hard", "soft"]
"""`hard` refuses what may not fit; `soft` refuses nothing, it counts and alerts."""
AlertAt = Annotated[float, Field(gt=0, le=10)]
MAX_BUDGET_USD: Final = 9_000_000
"""The highest limit: so much nano-USD is still exact in the scripts' numbers."""


class BudgetRequest(Request):
    """`POST /v1/budgets` (admin), and one `[[budgets]]` table of `onceq.toml`.

    It counts the jobs of a tenant that fit all of `team`, `key` (an API key's id), `model` (`<provider>/<model id>`, or
    `<provider>/*`) and `labels`; what is left out fits any. A job with several models falls under it when one of them
    fits. `name` is unique in its tenant and can't be changed. `alerts` are shares of the limit: when so much of
    it is spent, somebody is told, once a period. `tenant` is the caller's own; an operator may name another.
    """

    name: Name
    limit_usd: Annotated[float, Field(ge=1e-9, le=MAX_BUDGET_USD)]
    period: BudgetPeriod = "month"
    mode: BudgetMode = "hard"
    time_zone: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_+/-]{1,64}$")] = "UTC"
    team: Name | None = None
    key: Name | None = None
    model: ModelName | None = None
    labels: Annotated[dict[LabelKey, Name], Field(max_length=16)] = Field(default_factory=dict[str, str])
    alerts: Annotated[list[AlertAt], Field(max_length=8)] = Field(default=[0.5, 0.8, 1.0])
    tenant: TenantName | None = None


class BudgetChange(Request):
    """`PATCH /v1/budgets/{id}` (admin): changes what is given; what was spent and reserved stays counted."""

    limit_usd: Annotated[float, Field(ge=1e-9, le=MAX_BUDGET_USD)] | None = None
    mode: BudgetMode | None = None
    alerts: Annotated[list[AlertAt], Field(max_length=8)] | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.limit_usd is None and self.mode is None and self.alerts is None:
            raise ValueError("give limit_usd, mode or alerts")
        return self


class BudgetAlert(Answer):
    """When so much of a limit was spent (`share`), or a hard budget had no room for a call first (null)."""

    share: float | None
    at: datetime


class BudgetUse(Answer):
    """What one period of a budget has come to, nano-USD. Real and simulated money are never in one sum.

    `spent` is booked. `reserved` is held for calls that were admitted and have not ended: of a hard budget the most
    that each may cost, of a soft one the estimate. `unsure` is what calls whose usage nobody reported may have cost
    above the estimate that was booked. `left` is the limit without all three, below 0 where a soft budget was passed or
    a limit lowered. `unpriced_calls`: whose price nobody knows, so that they are in none of these. `forecast_nano_usd`
    is what the whole period would come to at its pace so far (spent / elapsed * length); null for `total`, and in the
    first twentieth of a period. `refused_posts`: answered 402 for want of room. `alerts` are those of this period,
    oldest first.
    """

    spent_nano_usd: int = 0
    reserved_nano_usd: int = 0
    unsure_nano_usd: int = 0
    left_nano_usd: int = 0
    unpriced_calls: int = 0
    refused_posts: int = 0
    forecast_nano_usd: int | None = None
    alerts: list[BudgetAlert] = Field(default_factory=list[BudgetAlert])


class BudgetStatus(Answer):
    """A budget and its present period.

    `source`: `file` budgets are those of `onceq.toml` and can't be changed through the API, `api` budgets can.
    `period_start` and `renews_at` bound the period; both are null for `total`, and `counting_since` is then what it
    counts from (null before its first job). `simulated_use` is the simulator's money, beside the same limit.
    """

    id: str
    name: str
    tenant: str
    source: Literal["file", "api"]
    mode: BudgetMode
    period: BudgetPeriod
    time_zone: str
    team: str | None = None
    key: str | None = None
    model: str | None = None
    labels: dict[str, str] = Field(default_factory=dict[str, str])
    alerts: list[float] = Field(default_factory=list[float])
    limit_nano_usd: int
    limit_usd: str
    period_start: datetime | None = None
    renews_at: datetime | None = None
    counting_since: datetime | None = None
    use: BudgetUse = Field(default_factory=BudgetUse)
    simulated_use: BudgetUse = Field(default_factory=BudgetUse)


class BudgetList(Answer):
    """`GET /v1/budgets`: by tenant and name, as they stood at `at`."""

    at: datetime
    budgets: list[BudgetStatus]


class BudgetRefusal(Answer):
    """In a 402 `budget_exceeded`: which budget, what it has left, what was needed, and when it renews (null: never)."""

    id: str
    name: str
    period: BudgetPeriod
    limit_nano_usd: int
    left_nano_usd: int
    needed_nano_usd: int
    renews_at: datetime | None = None
