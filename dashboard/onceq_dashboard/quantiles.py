"""One quantile of several groups, when each group tells only its own p50, p95 and count. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Final

from onceq.wire import Quantiles

_NORMAL: Final = NormalDist()
_Z95: Final = _NORMAL.inv_cdf(0.95)
_STEPS: Final = 40


def mixed(groups: Sequence[Quantiles], q: float) -> float | None:
    """The `q`-quantile in seconds of all groups' jobs together; None where no group has one.

    Exact for one group (q of 0.5 and 0.95). Quantiles can't be added up, so several groups are taken for lognormal,
    the shape that latencies have, and the quantile is looked for between the smallest and the largest of theirs.
    A weighted mean would be wrong by far: nine fast models and a slow one have the slow one's p95.
    """
    curves = [(g.count, math.log(g.p50), _spread(g.p50, g.p95 or g.p50)) for g in groups if g.count and g.p50]
    if not curves:
        return None
    ends = [math.exp(mu + sigma * _NORMAL.inv_cdf(q)) for _, mu, sigma in curves]
    low, high = min(ends), max(ends)
    wanted = q * sum(n for n, _, _ in curves)
    for _ in range(_STEPS if high > low else 0):
        middle = math.sqrt(low * high)
        below = sum(n * _below(middle, mu, sigma) for n, mu, sigma in curves)
        low, high = (middle, high) if below < wanted else (low, middle)
    return round(high, 4)


def _spread(p50: float, p95: float) -> float:
    """The sigma of a lognormal with these quantiles; never quite zero, so that its curve has no step."""
    return max(1e-6, math.log(max(p95, p50) / p50) / _Z95)


def _below(seconds: float, mu: float, sigma: float) -> float:
    return _NORMAL.cdf((math.log(seconds) - mu) / sigma)
