"""The budgets that a post falls under: what the store is told of them, and the 402 of a post that has no room in one.

A tenant without budgets costs a post one look into a dict.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from msgspec.structs import replace

from onceq.wire import BudgetRefusal, ErrorCode
from onceq_service.api.catalog import Resolved
from onceq_service.api.http.problems import Refused
from onceq_service.api.service import Service
from onceq_service.api.submission.admission import OUTPUT_TOKENS, BoundedRequest
from onceq_service.api.submission.receipt import rfc3339
from onceq_service.pricing import Tariff, cost_at, estimated_tokens
from onceq_service.store import Admission, ApiKey, BudgetRefused
from onceq_service.store.admission import Admitted
from onceq_service.store.budgets import MOST_OF_A_JOB, Budget, amount_in, line_around
from onceq_service.store.views import at, usd

_LOOKS: Final = 4
"""How often a post looks at budgets again that somebody changes meanwhile."""


async def put(
    service: Service, asked: Admission, bounded: BoundedRequest, read_at: float
) -> tuple[Admission, Admitted]:
    """Admits the post, its money held in each of its budgets; raises Refused (402), CostTooHigh, StoreError.

    Returns what was admitted too.
    """
    jobs = service.store.jobs
    if not service.budget_cache.of(asked.tenant):
        return asked, await jobs.admit(asked, read_at=read_at)
    models = [asked.model, *(model for model, _ in asked.chain)]
    for look in range(_LOOKS):
        under = falls_under(service.budget_cache.of(asked.tenant), asked.key_id, models, bounded)
        now_ms = round(time.time() * 1000)
        told = with_budgets(service.tariff, under, asked, bounded, now_ms) if under else asked
        try:
            return told, await jobs.admit(told, read_at=read_at)
        except BudgetRefused as exc:
            if exc.word != "stale" or look == _LOOKS - 1:
                raise refused(exc, under, bounded) from exc
            await service.see_budgets()
    raise AssertionError("the last look returns or raises")


async def refused_by_a_budget(
    service: Service, key: ApiKey, models: Sequence[Resolved], bounded: BoundedRequest
) -> ErrorCode | None:
    """The code with which a post would be refused for a budget as they stand now; None where all have room."""
    under = falls_under(service.budget_cache.of(key.tenant), key.id, [m.model for m in models], bounded)
    hard, most = [budget for budget in under if budget.mode == "hard"], bounded.bounds.call.nano_usd
    if not hard:
        return None
    if most is None:
        return bounded.bounds.call.why or "unbounded_cost"
    found = await service.store.budgets.status(hard, await service.store.stats.now_ms())
    uses = [budget.simulated_use if models[0].simulated else budget.use for budget in found]
    return "budget_exceeded" if any(use.left_nano_usd < most for use in uses) else None


def falls_under(
    budgets: Sequence[Budget], key_id: str, models: Sequence[str], bounded: BoundedRequest
) -> Sequence[Budget]:
    """Those of a tenant's budgets that count this post; raises Refused (402) where they are too many."""
    if not budgets:
        return ()
    team, labels = bounded.request.team or "", bounded.request.labels or {}
    found = [budget for budget in budgets if budget.fits(team, key_id, models, labels)]
    if len(found) > MOST_OF_A_JOB:
        detail = (
            f"This post falls under {len(found)} budgets, and a job may fall under {MOST_OF_A_JOB} at most: an admin "
            "has to merge some of them. Nothing was stored."
        )
        raise Refused("budget_exceeded", detail)
    return found


def with_budgets(
    tariff: Tariff, under: Sequence[Budget], asked: Admission, bounded: BoundedRequest, now_ms: int
) -> Admission:  # fmt: skip
    """The admission with what the store has to know of the budgets that it falls under, at `now_ms`."""
    told = allowance(under, now_ms)
    likely = estimate(tariff, asked.model, len(bounded.body), bounded.request.max_tokens) if told.soft else None
    lines, reserved = told.of_post(bounded.bounds.call.nano_usd, likely)
    return replace(asked, budgets=lines, reserved=reserved)


class Allowance(NamedTuple):
    """Budgets, and what the store is told of each for a post but for the amount."""

    under: Sequence[Budget]
    around: Sequence[tuple[str, str]]
    soft: bool
    """Whether one of them holds what a call will likely cost, instead of the most that it may."""

    def of_post(self, most: int | None, likely: int | None) -> tuple[str, int]:
        """Their lines for a post, and the most that one of them will hold; amounts are a call's, nano-USD."""
        amounts = [most if budget.mode == "hard" else likely for budget in self.under]
        lines = [amount_in(around, amount) for around, amount in zip(self.around, amounts, strict=True)]
        return "\n".join(lines), max([amount or 0 for amount in amounts], default=0)


def allowance(under: Sequence[Budget], now_ms: int) -> Allowance:
    """These budgets in the periods around a time."""
    return Allowance(under, [line_around(one, now_ms) for one in under], any(one.mode == "soft" for one in under))


def estimate(tariff: Tariff, model: str, in_bytes: int, max_tokens: int | None) -> int | None:
    """What a soft budget holds for a call, nano-USD: its bytes / 3 and `max_tokens`; None without a price."""
    given, answer = estimated_tokens(in_bytes), max_tokens or OUTPUT_TOKENS
    units = tariff.unit_prices(model, input_tokens=given)
    return cost_at(units, input_tokens=given, cached_tokens=0, output_tokens=answer)


def refused(exc: BudgetRefused, under: Sequence[Budget], bounded: BoundedRequest) -> Refused:
    """402 for a post that has no room in one of the budgets that it was told of."""
    account = exc.facts["account"].decode()
    budget = next(b for b in under if b.account == account)
    if exc.word == "over_budget":
        return over(budget, {name: int(value) for name, value in exc.facts.items() if name != "account"})
    if exc.word == "unbounded":
        call = bounded.bounds.call
        detail = f"Budget {budget.name!r} is hard: it needs to know what a call may cost at most. {call.detail}"
        return Refused(call.why or "unbounded_cost", f"{detail} Nothing was stored.")
    detail = f"Budget {budget.name!r} is being changed again and again; nothing was stored. Try again."
    return Refused("store_unavailable", detail, retry_after_s=1)


def over(budget: Budget, facts: dict[str, int]) -> Refused:
    """402 that names the budget, what is left of it and when it renews; `facts` as in BudgetRefused."""
    left, renews_ms = facts["left"], facts.get("renews")
    renews = f"It renews at {rfc3339(renews_ms)}." if renews_ms is not None else "It does not renew."
    said = BudgetRefusal(
        id=budget.id, name=budget.name, period=budget.period, limit_nano_usd=facts["limit"], left_nano_usd=left,
        needed_nano_usd=facts["needed"], renews_at=at(renews_ms),
    )  # fmt: skip
    detail = (
        f"Budget {budget.name!r} has {usd(max(0, left))} of {usd(facts['limit'])} USD left, and a call of this post "
        f"may cost up to {usd(facts['needed'])} USD. {renews} Lower max_tokens, ask a cheaper model, or have an admin "
        "raise the limit. Nothing was stored."
    )
    return Refused("budget_exceeded", detail, budget=said)
