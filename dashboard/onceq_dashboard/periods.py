"""The periods that costs are shown for, and those before them: whole hours or days of UTC, as sums are kept. Pure."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final, Literal, NamedTuple

Name = Literal["24 hours", "7 days", "30 days", "This month"]
NAMES: Final[tuple[Name, ...]] = ("24 hours", "7 days", "30 days", "This month")
_DAYS: Final[dict[Name, int]] = {"7 days": 7, "30 days": 30}
DAY: Final = timedelta(days=1)
HOUR: Final = timedelta(hours=1)


class Period(NamedTuple):
    """From the start of the first hour or day up to a time within the last one."""

    interval: Literal["hour", "day"]
    since: datetime
    until: datetime

    def starts(self) -> list[datetime]:
        """When each of its hours or days begins, oldest first."""
        step = HOUR if self.interval == "hour" else DAY
        return [self.since + n * step for n in range((self.until - self.since) // step + 1)]


def current(name: Name, now: datetime) -> Period:
    """The period that ends now: this hour or day is in it as far as it has come."""
    if name == "24 hours":
        return Period("hour", hour_of(now) - 23 * HOUR, now)
    if name == "This month":
        return Period("day", month_of(now), now)
    return Period("day", day_of(now) - (_DAYS[name] - 1) * DAY, now)


def before(name: Name, now: datetime) -> Period:
    """As many hours or days before that; of a month the same days of the month before."""
    this = current(name, now)
    if name == "This month":
        first = month_of(this.since - DAY)
        return Period("day", first, min(first + (now - this.since), this.since - HOUR))
    step = HOUR if this.interval == "hour" else DAY
    return Period(this.interval, this.since - len(this.starts()) * step, this.since - step)


def covers(found: Collection[datetime], period: Period) -> bool:
    """Whether these hours or days are of the period and not of its end alone: with half of it nothing is compared."""
    return min(found, default=period.until) <= period.since + (period.until - period.since) / 4


def words(name: Name) -> str:
    """In the middle of a sentence: "last 7 days", "this month"."""
    return "this month" if name == "This month" else f"last {name}"


def before_words(name: Name) -> str:
    """What the period is compared with."""
    return "the same days of last month" if name == "This month" else f"the {name} before"


def hour_of(at: datetime) -> datetime:
    """When its hour began."""
    return at.replace(minute=0, second=0, microsecond=0)


def day_of(at: datetime) -> datetime:
    """When its day (UTC) began."""
    return hour_of(at).replace(hour=0)


def month_of(at: datetime) -> datetime:
    """When its month (UTC) began."""
    return day_of(at).replace(day=1)


def next_month(at: datetime) -> datetime:
    """When the month (UTC) after it begins."""
    return month_of(month_of(at) + 32 * DAY)
