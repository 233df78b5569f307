"""Values as a person reads them, each with its unit. Pure.

`DASH` stands for "there is none"; it is never a zero.
"""

from __future__ import annotations

import re
import string
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final

from onceq.wire import NANO

DASH: Final = "—"
_TRANSFORMED: Final = re.compile(r"(https?(?=:)|www(?=\.)|@|[<>~-](?=[->=]))", re.IGNORECASE)
"""Where Markdown makes a link of a bare address (GFM, "autolinks"), and Streamlit an arrow of "->", escaped or not."""
_WORD_JOINER: Final = "\u2060"
_BACKTICKS: Final = re.compile("`+")
_MARKUP: Final = re.compile(f"([{re.escape(string.punctuation)}])")


def usd(nano: int | None) -> str:
    """US dollars of nano-USD; "unknown" for None.

    Cents from one dollar up, three significant digits below, and from a million up millions, else no tile has room.
    """
    if nano is None:
        return "unknown"
    sign, value = "-" if nano < 0 else "", abs(Decimal(nano) / NANO)
    if value >= 10**6:
        return f"{sign}${value / 10**6:,.2f}M"
    return f"{sign}${_significant(value) if value < 1 else f'{value:,.2f}'}"


def _significant(value: Decimal) -> str:
    if value == 0:
        return "0"
    places = max(2, 2 - value.adjusted())
    rounded = value.quantize(Decimal(1).scaleb(-places), ROUND_HALF_EVEN)
    whole, _, rest = f"{rounded:f}".partition(".")
    return f"{whole}.{rest.rstrip('0').ljust(2, '0')}"


def exact_usd(nano: int) -> str:
    """The exact decimal, without a sign of currency, for files: 1_500_000_000 -> "1.500000000"."""
    return f"{Decimal(nano).scaleb(-9):.9f}"


def duration(seconds: float | None) -> str:
    """A span of time in the unit that fits it, at most two units; `DASH` for None."""
    if seconds is None:
        return DASH
    if seconds < 0.9995:
        return f"{max(0.0, seconds) * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
    return _long(round(seconds))


def _long(seconds: int) -> str:
    for size, unit, smaller, sub in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            whole, rest = divmod(seconds, size)
            return f"{whole} {unit} {rest // smaller} {sub}" if rest // smaller else f"{whole} {unit}"
    return f"{seconds} s"


def age(seconds: float) -> str:
    """How long ago, in one unit."""
    whole = max(0, int(seconds))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if whole >= size:
            return f"{whole // size} {unit} ago"
    return f"{whole} s ago"


def clock(at: datetime) -> str:
    """The time of day, for a place that reads Markdown: between two plain colons Streamlit looks for an emoji."""
    return f"{at:%H:%M}\\:{at:%S}"


def count(number: int) -> str:
    """A whole number: exact below ten thousand, then three digits and k, M or G."""
    if abs(number) < 10_000:
        return f"{number:,}"
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g}{unit}" if abs(number) < 999.5 * size else f"{number / size:,.0f}{unit}"
    return str(number)


def rate(per_s: float | None, unit: str) -> str:
    """So many a time: three significant digits; `DASH` for None."""
    if per_s is None:
        return DASH
    return f"{count(round(per_s)) if per_s >= 100 else f'{per_s:.3g}'} {unit}"


def factor(ratio: float | None) -> str:
    """How many times, to two places; `DASH` for None."""
    return DASH if ratio is None else f"{ratio:.2f}×"


def share(part: int, whole: int) -> str:
    """A part in per cent of the whole; `DASH` when there is no whole. What is there is never "0.0 %"."""
    if not whole:
        return DASH
    if part > 99 * whole:
        return "> 9,900 %"
    return "< 0.1 %" if 0 < part / whole < 0.0005 else f"{100 * part / whole:.1f} %"


def change(now: float, before: float) -> str | None:
    """How much more or less than before, in per cent: "+12 %"; None where there was nothing before."""
    if not before:
        return None
    ratio = now / before - 1
    return f"{ratio:+.0%}".replace("%", " %") if abs(ratio) < 9.995 else f"{now / before:,.0f}×"


def some(number: int, noun: str, plural: str | None = None) -> str:
    """A count with its noun: "1 job", "3 jobs"."""
    return f"{count(number)} {noun if number == 1 else plural or noun + 's'}"


def literal(text: str) -> str:
    """A short text from elsewhere, for a place that reads Markdown: every sign that could be markup is escaped.

    An invisible word joiner keeps an address from becoming a link, and "->" from becoming an arrow.
    """
    return _MARKUP.sub(r"\\\1", _TRANSFORMED.sub(rf"\1{_WORD_JOINER}", " ".join(text.split())))


def shortened(text: str, most: int) -> str:
    """At most so many letters; what is left out is the middle, as names often differ at their ends alone."""
    if len(text) <= most:
        return text
    return f"{text[: most // 2]}…{text[-((most - 1) // 2) :]}"


def code_span(text: str) -> str:
    """A name from elsewhere as inline code in Markdown, where nothing in it can be markup."""
    line = " ".join(text.split())
    fence = "`" * (1 + max((len(run) for run in _BACKTICKS.findall(line)), default=0))
    return f"{fence} {line} {fence}" if "`" in line else f"{fence}{line or ' '}{fence}"
