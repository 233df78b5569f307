"""One quantile of several groups, judged by the jobs themselves."""

from __future__ import annotations

import random
from statistics import quantiles

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onceq.wire import Quantiles
from onceq_dashboard.quantiles import mixed


def told(seconds: list[float]) -> Quantiles:
    """What the service says of jobs."""
    return Quantiles(p50=at(seconds, 0.5), p95=at(seconds, 0.95), count=len(seconds))


def at(seconds: list[float], q: float) -> float:
    return quantiles(seconds, n=100, method="inclusive")[round(q * 100) - 1]


def test_nothing_has_no_quantile() -> None:
    assert mixed([], 0.5) is None
    assert mixed([Quantiles(), Quantiles(p50=None, p95=None, count=3)], 0.95) is None


def test_one_group_keeps_its_own_quantiles() -> None:
    group = Quantiles(p50=0.6, p95=2.1, count=100)
    assert mixed([group], 0.5) == pytest.approx(0.6, rel=1e-3)
    assert mixed([group], 0.95) == pytest.approx(2.1, rel=1e-3)


def test_a_slow_model_among_nine_fast_ones_is_not_averaged_away() -> None:
    dice = random.Random(3)
    groups = [[dice.lognormvariate(-0.7, 0.4) for _ in range(200)] for _ in range(9)]
    groups.append([dice.lognormvariate(3.0, 0.3) for _ in range(200)])
    together, parts = [s for g in groups for s in g], [told(g) for g in groups]
    assert mixed(parts, 0.95) == pytest.approx(at(together, 0.95), rel=0.15)
    assert mixed(parts, 0.5) == pytest.approx(at(together, 0.5), rel=0.15)
    mean = sum(p.p95 or 0 for p in parts) / len(parts)
    assert mean < 0.5 * at(together, 0.95), "what a mean of quantiles would have said"


def group(p50: float, spread: float, count: int) -> Quantiles:
    return Quantiles(p50=p50, p95=p50 * spread, count=count)


_GROUP = st.builds(group, st.floats(0.001, 300), st.floats(1, 20), st.integers(1, 10_000))


@given(st.lists(_GROUP, min_size=1, max_size=6))
def test_the_mixture_lies_between_its_groups(groups: list[Quantiles]) -> None:
    for q, name in ((0.5, "p50"), (0.95, "p95")):
        theirs = [getattr(g, name) for g in groups]
        found = mixed(groups, q)
        assert found is not None
        assert min(theirs) * 0.999 - 1e-4 <= found <= max(theirs) * 1.001 + 1e-4


def test_a_group_without_spread_and_one_of_zero_seconds_break_nothing() -> None:
    assert mixed([Quantiles(p50=2.0, p95=2.0, count=5), Quantiles(p50=2.0, p95=2.0, count=5)], 0.95) == 2.0
    assert mixed([Quantiles(p50=0.0, p95=0.0, count=5)], 0.5) is None
