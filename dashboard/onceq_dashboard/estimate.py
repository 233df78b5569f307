"""What asking again will cost, from what such jobs have cost. Pure.

The price of an answer of a model is what was spent on that model, wasted calls included, over the jobs that got their
answer from it: so the estimate holds the waste that comes with an answer. It is a mean: one job may cost far more.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Final, NamedTuple

from onceq.wire import CostPoint, Job
from onceq_dashboard.format import some, usd

DAYS: Final = 7
"""The whole days (UTC), today included, that the price of an answer is taken from."""

HOW: Final = (
    f"Estimated from the last {DAYS} days: what was spent on each model, wasted calls included, ÷ the jobs that it "
    "answered. A mean, not a bound."
)

Work = tuple[str, bool]
"""A model, and whether its work is simulated."""


class Estimate(NamedTuple):
    """nano-USD for the `known` jobs, real and simulated apart; `unknown` jobs have a model without a priced answer."""

    real_nano_usd: int
    simulated_nano_usd: int
    known: int
    unknown: int


def prices(points: Sequence[CostPoint]) -> dict[Work, Fraction]:
    """nano-USD an answer, by model; a model without an answer, or with calls of unknown price, has none."""
    sums: defaultdict[Work, Counter[str]] = defaultdict(Counter)
    for p in points:
        t = p.totals
        sums[p.model, p.simulated].update(spent=t.spent_nano_usd, answers=t.succeeded, unpriced=t.unpriced_calls)
    return {work: Fraction(s["spent"], s["answers"]) for work, s in sums.items() if s["answers"] and not s["unpriced"]}


def of_replay(jobs: Sequence[Job], price: Mapping[Work, Fraction]) -> Estimate:
    """What it will about cost to ask all of these again."""
    asked = Counter((job.model, job.simulated) for job in jobs)
    known = {work: n for work, n in asked.items() if work in price}
    real = sum(n * price[work] for work, n in known.items() if not work[1])
    simulated = sum(n * price[work] for work, n in known.items() if work[1])
    covered = sum(known.values())
    return Estimate(round(real), round(simulated), covered, asked.total() - covered)


def bill(jobs: int, cost: Estimate) -> str:
    """What asking again comes to, in a sentence of Markdown."""
    made = "A new job with the same request" if jobs == 1 else f"{jobs} new jobs with the same requests"
    simulated = f"{usd(cost.simulated_nano_usd)} simulated, that nobody is billed for"
    sums = [usd(cost.real_nano_usd)] if cost.real_nano_usd or not cost.simulated_nano_usd else []
    sums += [simulated] if cost.simulated_nano_usd else []
    told = f"a new bill of about {' and '.join(sums)}" if cost.known else "a new bill that can't be estimated"
    left = some(cost.unknown, "job")
    rest = f" Not in it: {left} of models without an answer of known price." if cost.unknown and cost.known else ""
    return f"{made}, and {told}.{rest}".replace("$", r"\$")
