"""What the month comes to if it goes on like the last weeks. Pure.

A day to come is taken for the mean of what the same weekday cost in the last four weeks, as far as sums go back:
Sundays are not like Mondays. Of today the larger of that and what was spent already counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import mean, pstdev
from typing import Final

import pandas as pd

from onceq.wire import NANO, CostPoint
from onceq_dashboard.frames import times
from onceq_dashboard.periods import DAY, day_of, month_of, next_month

LOOK_BACK_DAYS: Final = 28
ENOUGH_DAYS: Final = 3
"""Whole days with sums that a forecast needs."""
_Z90: Final = 1.2816

HOW: Final = (
    f"Each day to come is taken for the mean of the same weekday in the last {LOOK_BACK_DAYS} days (UTC). The range "
    "holds 8 of 10 months, if days vary as they have."
)


@dataclass(frozen=True, slots=True)
class Forecast:
    """nano-USD. `end` is what the month comes to, `low` and `high` the range of it; None where too few days tell.

    `days` has what was spent and what is expected by day of the month, `since` when the first of it began.
    """

    since: datetime
    spent: int
    end: int | None
    low: int | None
    high: int | None
    days: tuple[tuple[datetime, int, int | None], ...]


def read_from(now: datetime) -> datetime:
    """Since when days are needed."""
    return min(month_of(now), day_of(now) - LOOK_BACK_DAYS * DAY)


def forecast(points: Sequence[CostPoint], now: datetime) -> Forecast:
    """From the days (UTC) of one kind of work, those since `read_from` at least."""
    spent: defaultdict[datetime, int] = defaultdict(int)
    for p in points:
        spent[p.at] += p.totals.spent_nano_usd
    today, first = day_of(now), month_of(now)
    whole = _whole_days(spent, today)
    month = [first + n * DAY for n in range((next_month(now) - first) // DAY)]
    so_far = sum(nano for day, nano in spent.items() if first <= day <= today)
    if len(whole) < ENOUGH_DAYS:
        return Forecast(first, so_far, None, None, None, tuple((d, spent.get(d, 0), None) for d in month))
    usual = {d: _usual(whole, d) for d in month if d >= today}
    left = max(0, usual[today] - spent.get(today, 0)) + sum(nano for d, nano in usual.items() if d > today)
    spread = round(_Z90 * _deviation(whole) * len(usual) ** 0.5)
    days = tuple((d, spent.get(d, 0), usual.get(d)) for d in month)
    return Forecast(first, so_far, so_far + left, so_far + max(0, left - spread), so_far + left + spread, days)


def _whole_days(spent: Mapping[datetime, int], today: datetime) -> dict[datetime, int]:
    """The days before today that count, those without work since the first with some included."""
    known = [d for d in spent if today - LOOK_BACK_DAYS * DAY <= d < today]
    first = min(known, default=today)
    return {day: spent.get(day, 0) for day in (first + n * DAY for n in range((today - first) // DAY))}


def _usual(whole: Mapping[datetime, int], day: datetime) -> int:
    alike = [nano for d, nano in whole.items() if d.weekday() == day.weekday()]
    return round(mean(alike or whole.values()))


def _deviation(whole: Mapping[datetime, int]) -> float:
    return pstdev([nano - _usual(whole, d) for d, nano in whole.items()])


def lines(found: Forecast, now: datetime) -> pd.DataFrame:
    """One row a day of the month: `day`, `line` ("spent" or "forecast"), `usd` in sum since the month began.

    The forecast begins where what was spent ends, today.
    """
    rows: list[tuple[datetime, str, float]] = []
    total, today = 0, day_of(now)
    for day, nano, usual in found.days:
        if day <= today:
            total += nano
            rows.append((day, "spent", total / NANO))
        if day == today and usual is not None:
            rows.append((day, "forecast", (total := total + max(0, usual - nano)) / NANO))
        elif usual is not None:
            rows.append((day, "forecast", (total := total + usual) / NANO))
    return pd.DataFrame({
        "day": times([day for day, _, _ in rows]),
        "line": pd.Series([line for _, line, _ in rows], dtype="str"),
        "usd": pd.Series([usd for _, _, usd in rows], dtype="float64"),
    })  # fmt: skip
