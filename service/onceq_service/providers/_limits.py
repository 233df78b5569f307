"""What a provider's headers say of its rate limits.

Source: OpenAI's guide to rate limits (`x-ratelimit-limit-requests`, resets like `1m30.5s`) and Anthropic's
(`anthropic-ratelimit-requests-limit`, resets in RFC 3339). Bedrock has none. A header that can't be read says nothing.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final

from onceq_service.providers.base import LONGEST_WAIT_S, RateLimits

_OPENAI: Final = ("x-ratelimit-{part}-{axis}", ("requests", "tokens", ""))
_ANTHROPIC: Final = ("anthropic-ratelimit-{axis}-{part}", ("requests", "input-tokens", "output-tokens"))
"""How a header is named, and what requests, input and output are called. OpenAI's tokens are both together: taken as
a limit of the input they hold back too little, never too much."""
_COUNT = re.compile(r"\d{1,12}")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|d|h|m|s)")
_UNIT_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def rate_limits(headers: Mapping[str, str]) -> RateLimits | None:
    """From lower-case headers; None where they tell of no limit."""
    for pattern, axes in (_OPENAI, _ANTHROPIC):
        limits = [_count(headers.get(pattern.format(part="limit", axis=axis))) or 0 for axis in axes]
        if any(limits):
            waits = [_wait_s(headers, pattern, axis) for axis in axes]
            left = _count(headers.get(pattern.format(part="remaining", axis="requests")))
            used = 0 if left is None else max(0, limits[0] - left)
            return RateLimits(*limits, requests_used=used, wait_s=min(LONGEST_WAIT_S, max(waits)))
    return None


def _wait_s(headers: Mapping[str, str], pattern: str, axis: str) -> float:
    """Seconds until the axis is reset; 0 while something of it remains."""
    if _count(headers.get(pattern.format(part="remaining", axis=axis))) != 0:
        return 0.0
    return _reset_s(headers.get(pattern.format(part="reset", axis=axis)) or "", headers.get("date"))


def _count(value: str | None) -> int | None:
    return int(value) if value is not None and _COUNT.fullmatch(value) else None


def _reset_s(reset: str, date: str | None) -> float:
    parts = _DURATION.findall(reset)
    if parts and "".join(n + unit for n, unit in parts) == reset:
        return sum(float(n) * _UNIT_S[unit] for n, unit in parts)
    try:
        at = datetime.fromisoformat(reset.replace("Z", "+00:00"))
    except ValueError:
        return 0.0
    return 0.0 if at.tzinfo is None else max(0.0, at.timestamp() - _now(date))


def _now(date: str | None) -> float:
    """The provider's own clock: ours may be wrong."""
    try:
        return parsedate_to_datetime(date).timestamp() if date else time.time()
    except ValueError:
        return time.time()
