"""What a map has cost, what is set aside for its jobs in flight, and what all of it may come to. Pure.

Money is integer nano-USD. With a limit, a row is posted only when what was spent, all that is set aside, and the row's
own upper bound are within it; so the limit holds whatever the rows cost in the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from math import ceil, floor, sqrt
from typing import Final

from onceq.wire import NANO
from onceq.wire.words import nano_usd_of

_T95: Final = ((1, 12.71), (2, 4.30), (3, 3.18), (4, 2.78), (6, 2.45), (9, 2.26), (19, 2.09), (59, 2.00))
"""Two-sided 95 % quantiles of Student's t by degrees of freedom; each serves up to the next, which is the safe side."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What the whole map may cost, nano-USD: the mean, and the range for 95 % of maps whose rows cost alike."""

    nano_usd: int
    low_nano_usd: int
    high_nano_usd: int
    rows: int
    """Priced rows that it goes by."""

    def __str__(self) -> str:
        low, high = dollars(self.low_nano_usd, 3), dollars(self.high_nano_usd, 3)
        return f"about {dollars(self.nano_usd, 3)} (95 %: {low} to {high})"


class MapBudget:
    """Adds up the rows of one map."""

    def __init__(self, limit_usd: float | None = None) -> None:
        self.limit = None if limit_usd is None else nano_usd_of(limit_usd)
        self.spent = 0
        self.reserved = 0
        self.unpriced = 0
        self._rows = 0
        self._sampled = 0
        self._squares = 0.0

    @property
    def free(self) -> int:
        """What the limit leaves for further rows; there must be one."""
        return max(0, (self.limit or 0) - self.spent - self.reserved)

    def reserve(self, bound: int) -> None:
        """Sets money aside."""
        self.reserved += bound

    def settle(self, bound: int, cost: int | None, *, sampled: bool = True) -> None:
        """Books a row's cost instead of what was set aside; `sampled`: it says what the next one may cost."""
        self.reserved -= bound
        if cost is None:
            self.unpriced += 1
            return
        self.spent += cost
        if sampled:
            self._rows += 1
            self._squares += float(cost) ** 2
            self._sampled += cost

    def forecast(self, left: int) -> Forecast | None:
        """What it comes to when so many more rows are like those so far; None before the second."""
        n = self._rows
        if n < 2:
            return None
        mean = self._sampled / n
        variance = max(0.0, (self._squares - n * mean**2) / (n - 1))
        spread = _t95(n - 1) * sqrt(variance * (left + left**2 / n))
        total = self.spent + left * mean
        return Forecast(round(total), max(self.spent, floor(total - spread)), ceil(total + spread), n)


def _t95(freedom: int) -> float:
    return next(value for upto, value in reversed(_T95) if freedom >= upto)


def usd(nano_usd: int | None) -> float | None:
    """For reckoning; None stays None."""
    return None if nano_usd is None else nano_usd / NANO


def dollars(nano_usd: int, digits: int = 2) -> str:
    """For people: so many significant digits at least, cents above a dollar, and no exponent."""
    usd = Decimal(nano_usd) / NANO
    if usd >= 1 or not usd:
        return f"${usd:,.2f}" if usd else "$0"
    return f"${usd:.{min(9, digits - 1 - usd.adjusted())}f}"
