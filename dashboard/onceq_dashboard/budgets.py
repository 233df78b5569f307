"""How budgets stand, as words and frames. Pure; real and simulated money are apart, beside the same limit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, tzinfo
from typing import Final

import pandas as pd

from onceq.wire import NANO, BudgetPeriod, BudgetStatus, BudgetUse
from onceq_dashboard.format import code_span, duration, share, some, usd
from onceq_dashboard.frames import dollars
from onceq_dashboard.money import labels_text

PERIODS: Final[dict[BudgetPeriod, str]] = {
    "hour": "each hour",
    "day": "each day",
    "month": "each month",
    "total": "in all",
}
NEAR: Final = 0.8
"""The part of a limit from which a budget is worth a look."""


def use_of(budget: BudgetStatus, *, simulated: bool) -> BudgetUse:
    """What it has come to of one kind of money."""
    return budget.simulated_use if simulated else budget.use


def taken(budget: BudgetStatus, *, simulated: bool) -> int:
    """nano-USD that are no longer free: spent, reserved, and what may have been billed above the estimate."""
    use = use_of(budget, simulated=simulated)
    return use.spent_nano_usd + use.reserved_nano_usd + use.unsure_nano_usd


def pace(budget: BudgetStatus, *, simulated: bool) -> int | None:
    """nano-USD that its period comes to: never less than what is taken already; None where it can't be told."""
    forecast = use_of(budget, simulated=simulated).forecast_nano_usd
    return None if forecast is None else max(forecast, taken(budget, simulated=simulated))


def fullest_first(budgets: Sequence[BudgetStatus], *, simulated: bool) -> list[BudgetStatus]:
    """By how much of the limit is taken."""
    return sorted(budgets, key=lambda b: (-taken(b, simulated=simulated) / b.limit_nano_usd, b.tenant, b.name))


def is_whole(budget: BudgetStatus) -> bool:
    """Whether it counts everything that its tenant does."""
    return not (budget.team or budget.key or budget.model or budget.labels)


def month_limits(budgets: Sequence[BudgetStatus]) -> dict[str, int]:
    """nano-USD by name of the budgets for all that the tenant does in a month."""
    return {b.name: b.limit_nano_usd for b in budgets if b.period == "month" and is_whole(b)}


def scope_words(budget: BudgetStatus) -> str:
    """What it counts, in Markdown: "team `search`, model `openai/*`"; "everything" without a filter."""
    named = {"team": budget.team, "API key": budget.key, "model": budget.model, "labels": labels_text(budget.labels)}
    return ", ".join(f"{name} {code_span(value)}" for name, value in named.items() if value) or "everything"


def stands(budget: BudgetStatus, now: datetime, *, simulated: bool) -> str:
    """How it stands, in a line of Markdown: what is left, of what the rest is, when it renews, what it comes to."""
    use = use_of(budget, simulated=simulated)
    over = use.left_nano_usd < 0
    said = [f"**{usd(abs(use.left_nano_usd))} {'over' if over else 'left'}**", f"{usd(use.spent_nano_usd)} spent"]
    if use.reserved_nano_usd:
        said.append(f"{usd(use.reserved_nano_usd)} reserved")
    if use.unsure_nano_usd:
        said.append(f"{usd(use.unsure_nano_usd)} unsure")
    if budget.renews_at:
        said.append(f"renews in {duration(max(60.0, (budget.renews_at - now).total_seconds()))}")
    comes_to = pace(budget, simulated=simulated)
    if comes_to is not None:
        said.append(f"at this pace {usd(comes_to)}")
    return " · ".join(said).replace("$", r"\$")


def alerted(budget: BudgetStatus, zone: tzinfo | None, *, simulated: bool) -> str | None:
    """What somebody was told of it in this period, in a line: thresholds that were passed, posts that were refused."""
    use = use_of(budget, simulated=simulated)
    passed = [alert for alert in use.alerts if alert.share is not None]
    said = [f"passed {alert.share:.0%} on {_when(alert.at, zone)}".replace("%", " %") for alert in passed[-1:]]
    refused = next((alert for alert in use.alerts if alert.share is None), None)
    if use.refused_posts and refused:
        said.append(f"{some(use.refused_posts, 'post')} refused, the first on {_when(refused.at, zone)}")
    elif refused:
        said.append(f"no room for a further call since {_when(refused.at, zone)}")
    return " · ".join(said) or None


def _when(at: datetime, zone: tzinfo | None) -> str:
    return f"{at.astimezone(zone):%d %b, %H:%M}"


def of_today(budgets: Sequence[BudgetStatus]) -> BudgetStatus | None:
    """The budget that today's spending is set against: the tightest of those for all that the tenant does in a day,
    else in a month; None where there is neither."""
    whole = [b for b in budgets if is_whole(b) and b.period in ("day", "month")]
    return min(whole, key=lambda b: (b.period != "day", b.limit_nano_usd), default=None)


def today(budget: BudgetStatus, spent: int, days: int, *, simulated: bool) -> tuple[str, str, bool]:
    """How today stands against it: as a share, in words, and whether that is worth a look.

    Of a budget for a month its part for one day; `days` is how many the month has, `spent` nano-USD since midnight UTC.
    """
    if budget.period == "day":  # its day may begin elsewhere than in UTC
        nano, limit = taken(budget, simulated=simulated), budget.limit_nano_usd
        words = f"{usd(nano)} of {usd(limit)} a day, what calls that go on may cost included"
    else:
        nano, limit = spent, budget.limit_nano_usd // days
        words = f"a day's part of its {usd(budget.limit_nano_usd)} a month is {usd(limit)}"
    return f"{share(nano, limit)} of {usd(limit)}", words.replace("$", r"\$"), nano > NEAR * limit


def filled(budget: BudgetStatus, *, simulated: bool) -> str:
    """How much of it is taken: "$12.30 of $50.00, 24.6 %"."""
    nano = taken(budget, simulated=simulated)
    return f"{usd(nano)} of {usd(budget.limit_nano_usd)}, {share(nano, budget.limit_nano_usd)}"


def is_near(budget: BudgetStatus, *, simulated: bool) -> bool:
    """Whether somebody should look: nearly all is taken, or the pace leads above the limit."""
    use = use_of(budget, simulated=simulated)
    return max(taken(budget, simulated=simulated) / NEAR, use.forecast_nano_usd or 0) > budget.limit_nano_usd


def table(budgets: Sequence[BudgetStatus], *, simulated: bool) -> pd.DataFrame:
    """One row a budget, in the order given.

    `budget`, `counts` (text), `period`, `mode`, `limit_usd`, `spent_usd`, `reserved_usd`, `unsure_usd`, `left_usd`,
    `taken` (1.0 is the limit), `pace_usd` (NaN where it can't be told), `refused` (posts, int64), `time_zone`,
    `source`, `tenant`.
    """
    uses = [use_of(b, simulated=simulated) for b in budgets]
    frame = pd.DataFrame({
        "budget": _texts(b.name for b in budgets), "counts": _texts(scope_words(b).replace("`", "") for b in budgets),
        "period": _texts(PERIODS[b.period] for b in budgets), "mode": _texts(b.mode for b in budgets),
        "limit_usd": dollars([b.limit_nano_usd for b in budgets]),
        "spent_usd": dollars([u.spent_nano_usd for u in uses]),
        "reserved_usd": dollars([u.reserved_nano_usd for u in uses]),
        "unsure_usd": dollars([u.unsure_nano_usd for u in uses]), "left_usd": dollars([u.left_nano_usd for u in uses]),
    })  # fmt: skip
    frame["taken"] = pd.Series([taken(b, simulated=simulated) / b.limit_nano_usd for b in budgets], dtype="float64")
    frame["pace_usd"] = dollars([pace(b, simulated=simulated) for b in budgets])
    frame["refused"] = pd.Series([u.refused_posts for u in uses], dtype="int64")
    for name in ("time_zone", "source", "tenant"):
        frame[name] = _texts(getattr(b, name) for b in budgets)
    return frame


def limits(budgets: Sequence[BudgetStatus]) -> pd.DataFrame:
    """One row a budget for all that the tenant does in a month: `name`, `usd`."""
    found = month_limits(budgets)
    return pd.DataFrame({
        "name": _texts(found), "usd": pd.Series([nano / NANO for nano in found.values()], dtype="float64"),
    })  # fmt: skip


def _texts(values: Iterable[str]) -> pd.Series[str]:
    return pd.Series(list(values), dtype="str")
