"""Money as data frames: by group, over time, by reason of waste, by job; and as rows of a file. Pure.

Money is float US dollars here, for the eye only (exact sums come from the wire's integers, see `cost_rows`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from math import log
from typing import Final, Literal, NamedTuple

import pandas as pd

from onceq.wire import CostPoint, Totals
from onceq_dashboard.causes import blame
from onceq_dashboard.format import DASH, exact_usd, share, some, usd
from onceq_dashboard.frames import NOBODY, OTHER, dollars, times

GroupBy = Literal["model", "team", "provider", "band", "key", "labels"]
PARTS: Final = ("in answers", "wasted", "avoided")
_SUMS: Final = ("jobs", "succeeded", "failed", "calls", "input_tokens", "output_tokens", "unpriced_calls")


def costs(points: Sequence[CostPoint], by: GroupBy, earlier: Sequence[CostPoint] = ()) -> pd.DataFrame:
    """One row a group, the most expensive first.

    `group`, `jobs`, `succeeded`, `failed`, `calls`, `input_tokens`, `output_tokens`, `unpriced_calls` (in no sum of
    money), `spent_usd` (includes wasted), `wasted_usd`, `avoided_usd` (NaN where no call has a known price, at least so
    much where some have none), `per_job_usd` (NaN without a job of known price), `before_usd` (what the group spent by
    the `earlier` points; NaN without any), `change` (1.0 is twice as much; NaN where nothing was spent before).
    """
    groups, then = grouped(points, by), grouped(earlier, by)
    order = sorted(groups, key=lambda g: (-spent(groups[g]), g))
    frame = pd.DataFrame({"group": pd.Series(order, dtype="str")})
    for name in _SUMS:
        frame[name] = pd.Series([sum(getattr(t, name) for t in groups[g]) for g in order], dtype="int64")
    for name in ("spent", "wasted", "avoided"):
        frame[f"{name}_usd"] = dollars([_known(groups[g], f"{name}_nano_usd") for g in order])
    jobs = pd.Series([priced_jobs(groups[g]) for g in order], dtype="float64")
    frame["per_job_usd"] = frame["spent_usd"] / jobs.where(jobs > 0)
    frame["before_usd"] = dollars([_known(then.get(g, []), "spent_nano_usd") if then else None for g in order])
    frame["change"] = frame["spent_usd"] / frame["before_usd"].where(frame["before_usd"] > 0) - 1
    return frame


def is_priced(totals: Sequence[Totals]) -> bool:
    """Whether what these cost is known at least in part: not where no call of theirs has a price."""
    unknown = sum(t.unpriced_calls for t in totals)
    return not unknown or unknown < sum(t.calls for t in totals)


def _known(totals: Sequence[Totals], name: str) -> int | None:
    return sum(getattr(t, name) for t in totals) if is_priced(totals) else None


def priced_jobs(totals: Sequence[Totals]) -> int:
    """The jobs of known price, those that what was spent can be divided by."""
    if not any(t.unpriced_calls for t in totals):
        return sum(t.jobs for t in totals)
    return sum(sum(t.job_costs.values()) for t in totals)


def per_job(totals: Totals) -> int | None:
    """nano-USD that a job of known price cost; None without one."""
    jobs = priced_jobs([totals])
    return totals.spent_nano_usd // jobs if jobs and is_priced([totals]) else None


def amount(nano: int, totals: Totals) -> str:
    """A sum of these as a person reads it: none where no call has a known price, "at least" where some have none."""
    if not is_priced([totals]):
        return DASH
    return f"≥ {usd(nano)}" if totals.unpriced_calls else usd(nano)


def grouped(points: Sequence[CostPoint], by: GroupBy) -> dict[str, list[Totals]]:
    """Totals by group."""
    groups: defaultdict[str, list[Totals]] = defaultdict(list)
    for p in points:
        groups[group_of(p, by)].append(p.totals)
    return groups


def spent(totals: Sequence[Totals]) -> int:
    """nano-USD that all of these spent."""
    return sum(t.spent_nano_usd for t in totals)


def group_of(point: CostPoint, by: GroupBy) -> str:
    """The name of a point's group; `NOBODY` where it has none."""
    return (labels_words(point.labels) if by == "labels" else getattr(point, by)) or NOBODY


def biggest(points: Sequence[CostPoint], by: GroupBy, top: int) -> list[str]:
    """The `top` groups by what was spent on them, the most expensive first; ties by name."""
    groups = grouped(points, by)
    return sorted(groups, key=lambda group: (-spent(groups[group]), group))[:top]


def over_time(points: Sequence[CostPoint], starts: Sequence[datetime], by: GroupBy, top: int = 6) -> pd.DataFrame:
    """One row an hour or day and group, zeros included: `at`, `group` (the `top` biggest, then `OTHER`), `usd`."""
    names = biggest(points, by, top)
    sums: defaultdict[tuple[datetime, str], int] = defaultdict(int)
    for p in points:
        group = group_of(p, by)
        sums[p.at, group if group in names else OTHER] += p.totals.spent_nano_usd
    shown = [*names, OTHER] if any(group == OTHER for _, group in sums) else names
    cells = [(at, group) for at in starts for group in shown]
    return pd.DataFrame({
        "at": times([at for at, _ in cells]),
        "group": pd.Series([group for _, group in cells], dtype="str"),
        "usd": dollars([sums[cell] for cell in cells]),
    })  # fmt: skip


def parts_over_time(points: Sequence[CostPoint], starts: Sequence[datetime]) -> pd.DataFrame:
    """One row an hour or day and part (of `PARTS`), zeros included: `at`, `part`, `usd`.

    `in answers` and `wasted` were spent; `avoided` is what the queue saved: posts that made no new job.
    """
    sums: defaultdict[datetime, list[int]] = defaultdict(lambda: [0, 0, 0])
    for p in points:
        t = p.totals
        for n, nano in enumerate((t.spent_nano_usd - t.wasted_nano_usd, t.wasted_nano_usd, t.avoided_nano_usd)):
            sums[p.at][n] += nano
    cells = [(at, n) for at in starts for n in range(len(PARTS))]
    return pd.DataFrame({
        "at": times([at for at, _ in cells]),
        "part": pd.Series([PARTS[n] for _, n in cells], dtype="str"),
        "usd": dollars([sums[at][n] for at, n in cells]),
    })  # fmt: skip


def waste(totals: Totals) -> pd.DataFrame:
    """One row a reason, the dearest first: `code`, `blame` (see `causes.py`), `usd`."""
    reasons = sorted(((c, n) for c, n in totals.wasted_by_reason.items() if n), key=lambda pair: (-pair[1], pair[0]))
    return pd.DataFrame({
        "code": pd.Series([code for code, _ in reasons], dtype="str"),
        "blame": pd.Series([blame(code) for code, _ in reasons], dtype="str"),
        "usd": dollars([nano for _, nano in reasons]),
    })  # fmt: skip


_EDGE: Final = 2**0.25
"""How far apart the edges of the service's histogram are: its buckets are `2 ** (n / 4) - 1` micro-USD."""
_FREE_NANO_USD: Final = 200
"""The first bucket ends below this: a job in it cost nothing, or nearly so."""


def job_costs(totals: Totals) -> pd.DataFrame:
    """One row a price range, the cheapest first: `over_usd`, `up_to_usd`, `jobs`; without those that cost nothing."""
    ranges = [(_lower(edge), edge, n) for edge, n in sorted(totals.job_costs.items()) if edge >= _FREE_NANO_USD]
    return pd.DataFrame({
        "over_usd": dollars([low for low, _, _ in ranges]),
        "up_to_usd": dollars([high for _, high, _ in ranges]),
        "jobs": pd.Series([n for _, _, n in ranges], dtype="int64"),
    })  # fmt: skip


def _lower(edge: int) -> int:
    """Where its bucket begins: exactly where the one before ends."""
    bucket = round(log(edge / 1000 + 1, _EDGE))
    return round((_EDGE ** (bucket - 1) - 1) * 1000)


def unpriced(calls: int) -> str:
    """What such calls mean for the sums of a page."""
    return f"{some(calls, 'call')} of unknown price: in no sum of money here. What has a ≥ cost at least so much."


def estimated(totals: Totals) -> str:
    """How much of a page's sums no provider has confirmed."""
    nano, part = totals.estimated_nano_usd, share(totals.estimated_nano_usd, totals.spent_nano_usd)
    return (
        f"Of what was spent {usd(nano)} ({part}) is estimated: calls that ended before the provider told their usage. "
        "What it bills for them may differ."
    )


class Spread(NamedTuple):
    """How what jobs cost is spread, all within 19 %: nano-USD at the median and the 95th percentile.

    `free` jobs cost nothing. `dear_share` is the part of the money that went to the dearest twentieth of the jobs.
    """

    p50: int
    p95: int
    free: int
    dear_share: float


def spread(totals: Totals) -> Spread | None:
    """None without a job of known cost."""
    buckets = [((_lower(edge) + edge) // 2, n) for edge, n in sorted(totals.job_costs.items())]
    jobs = sum(n for _, n in buckets)
    if not jobs:
        return None
    free = sum(n for edge, n in totals.job_costs.items() if edge < _FREE_NANO_USD)
    return Spread(_at(buckets, 0.5 * jobs), _at(buckets, 0.95 * jobs), free, _top_share(buckets, jobs / 20))


def _at(buckets: Sequence[tuple[int, int]], rank: float) -> int:
    seen = 0
    for nano, n in buckets:
        seen += n
        if seen >= rank:
            return nano
    return buckets[-1][0]


def _top_share(buckets: Sequence[tuple[int, int]], wanted: float) -> float:
    whole, top = sum(nano * n for nano, n in buckets), 0.0
    for nano, n in reversed(buckets):
        taken = min(wanted, n)
        top, wanted = top + taken * nano, wanted - taken
    return top / whole if whole else 0.0


def restated(points: Sequence[CostPoint], by: GroupBy) -> pd.DataFrame:
    """One row a group of points that were asked for with another day's prices, the dearest first.

    `group`, `booked_usd`, `restated_usd` (NaN where a model has no price then), `change` (NaN where unknown).
    """
    again: dict[str, int | None] = {}
    for p in points:
        group = group_of(p, by)
        so_far = again.get(group, 0)
        again[group] = None if so_far is None or p.restated_nano_usd is None else so_far + p.restated_nano_usd
    groups = grouped(points, by)
    order = sorted(groups, key=lambda g: (-spent(groups[g]), g))
    frame = pd.DataFrame({"group": pd.Series(order, dtype="str")})
    frame["booked_usd"] = dollars([spent(groups[g]) for g in order])
    frame["restated_usd"] = dollars([again[g] for g in order])
    frame["change"] = frame["restated_usd"] / frame["booked_usd"].where(frame["booked_usd"] > 0) - 1
    return frame


def labels_words(labels: Mapping[str, str]) -> str:
    """Labels as people name them: "memo · v1" of a prompt and its version, all others with their names."""
    if set(labels) == {"prompt", "version"}:
        return f"{labels['prompt']} · {labels['version']}"
    return labels_text(labels)


def labels_text(labels: Mapping[str, str]) -> str:
    """Labels in one line, by name: "prompt=a, version=2"; empty without."""
    return ", ".join(f"{name}={value}" for name, value in sorted(labels.items()))


def cost_rows(points: Sequence[CostPoint]) -> list[dict[str, object]]:
    """For a file: one row an hour or day and group, oldest first; money as exact decimals."""
    ordered = sorted(points, key=lambda p: (p.at, p.team, p.model, p.band, p.key, labels_text(p.labels), p.simulated))
    return [{name: read(p) for name, read in COST_COLUMNS.items()} for p in ordered]


COST_COLUMNS: Final[dict[str, Callable[[CostPoint], object]]] = {
    "from_utc": lambda p: p.at.strftime("%Y-%m-%dT%H:%M:%SZ"),
    "team": lambda p: p.team,
    "provider": lambda p: p.provider,
    "model": lambda p: p.model,
    "band": lambda p: p.band,
    "api_key": lambda p: p.key,
    "labels": lambda p: labels_text(p.labels),
    "simulated": lambda p: "yes" if p.simulated else "no",
    "jobs": lambda p: p.totals.jobs,
    "joined": lambda p: p.totals.joined,
    "replayed": lambda p: p.totals.replayed,
    "succeeded": lambda p: p.totals.succeeded,
    "failed": lambda p: p.totals.failed,
    "cancelled": lambda p: p.totals.cancelled,
    "expired": lambda p: p.totals.expired,
    "calls": lambda p: p.totals.calls,
    "tries": lambda p: p.totals.tries,
    "input_tokens": lambda p: p.totals.input_tokens,
    "output_tokens": lambda p: p.totals.output_tokens,
    "cached_tokens": lambda p: p.totals.cached_tokens,
    "reasoning_tokens": lambda p: p.totals.reasoning_tokens,
    "spent_usd": lambda p: exact_usd(p.totals.spent_nano_usd),
    "wasted_usd": lambda p: exact_usd(p.totals.wasted_nano_usd),
    "avoided_usd": lambda p: exact_usd(p.totals.avoided_nano_usd),
    "estimated_usd": lambda p: exact_usd(p.totals.estimated_nano_usd),
    "unpriced_calls": lambda p: p.totals.unpriced_calls,
}
