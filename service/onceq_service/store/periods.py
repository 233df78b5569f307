"""The calendar of budgets: pure. Lua has no time zones, so each caller of a script tells it where periods begin."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, assert_never

from onceq.wire import BudgetPeriod
from onceq_service.settings import zone

HOUR_MS: Final = 3_600_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def ms_from(at: datetime) -> int:
    """The first whole ms since 1970 that is not before a time; what is stored has whole ones."""
    return max(0, -((_EPOCH - at) // timedelta(milliseconds=1)))


def ms_till(at: datetime) -> int:
    """The last whole ms since 1970 that is not behind a time."""
    return (at - _EPOCH) // timedelta(milliseconds=1)


def starts(period: BudgetPeriod, time_zone: str, now_ms: int) -> tuple[int, ...]:
    """When the period before the present one, it, and the two behind it begin, ms since the epoch; (0,) for `total`.

    So a script finds the present period, and when it renews, although its clock differs from the caller's.
    """
    if period == "total":
        return (0,)
    if period == "hour":
        offset_ms = _offset_ms(time_zone, now_ms)
        present = (now_ms + offset_ms) // HOUR_MS * HOUR_MS - offset_ms
        return tuple(present + n * HOUR_MS for n in (-1, 0, 1, 2))
    local = datetime.fromtimestamp(now_ms / 1000, zone(time_zone))
    return _civil(period, time_zone, local.year, local.month, local.day if period == "day" else 1)


def _offset_ms(time_zone: str, now_ms: int) -> int:
    """A zone's distance from UTC matters to hours only by its minutes: the hours of most are the same everywhere."""
    offset = datetime.fromtimestamp(now_ms / 1000, zone(time_zone)).utcoffset() or timedelta()
    return round(offset.total_seconds() * 1000) % HOUR_MS


@lru_cache(maxsize=4096)
def _civil(period: BudgetPeriod, time_zone: str, year: int, month: int, day: int) -> tuple[int, ...]:
    """The same for days and months, which are as long as the zone's clocks make them."""
    if period == "day":
        noon = datetime(year, month, day, 12)  # noqa: DTZ001 - a civil date, which has no zone
        days = [noon + timedelta(days=n) for n in (-1, 0, 1, 2)]
        return tuple(_midnight(time_zone, d.year, d.month, d.day) for d in days)
    if period == "month":
        months = [year * 12 + month - 1 + n for n in (-1, 0, 1, 2)]
        return tuple(_midnight(time_zone, m // 12, m % 12 + 1, 1) for m in months)
    if period in ("hour", "total"):
        raise ValueError(f"a {period} has no civil date")
    assert_never(period)


def _midnight(time_zone: str, year: int, month: int, day: int) -> int:
    return round(datetime(year, month, day, tzinfo=zone(time_zone)).timestamp() * 1000)


def present(begins: tuple[int, ...], now_ms: int) -> tuple[int, int | None]:
    """When the period of now began, and when the next one does; (0, None) for `total`. As `period_of` in Lua."""
    found, renews = begins[0], None
    for begin in begins:
        if begin <= now_ms:
            found = begin
        elif renews is None:
            renews = begin
    return found, renews
