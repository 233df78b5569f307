"""What a manager asks, answered in a sentence: where money goes, what was wasted and saved, why it is slow.

Pure. Sentences are Markdown, in which everything that comes from elsewhere is escaped; `$` is escaped too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from onceq.wire import CostPoint, Totals
from onceq.wire.phases import VERDICTS
from onceq_dashboard import money
from onceq_dashboard.causes import blame
from onceq_dashboard.forecast import Forecast
from onceq_dashboard.format import code_span, count, duration, share, some, usd
from onceq_dashboard.frames import NOBODY
from onceq_dashboard.latency import VERDICT_WORDS, parts_of

CALM_WASTE: Final = 0.02
"""The part of the bill from which waste is worth a look."""
BUDGET: Final = "Will we stay in budget?"
NO_PRICE: Final = "That is not known: no call has a known price."
SLOW_SHARE: Final = 0.05
"""The part of the jobs from which slow and failed ones are worth a look."""


class Answer(NamedTuple):
    """A question as a person asks it, and its answer; `look` where somebody should look at it."""

    question: str
    words: str
    look: bool = False


def where(points: Sequence[CostPoint], *, teams: bool = True) -> Answer:
    """Which model and which team cost most."""
    whole = sum(p.totals.spent_nano_usd for p in points)
    if not money.is_priced([p.totals for p in points]):
        return Answer("Where does the money go?", NO_PRICE)
    if not whole:
        return Answer("Where does the money go?", "Nothing was spent.")
    model, model_usd = _biggest(points, "model")
    said = f"{share(model_usd, whole)} to {code_span(model)}"
    team, team_usd = _biggest(points, "team")
    if teams and team != NOBODY:
        said += f"; {share(team_usd, whole)} was spent by the team {code_span(team)}"
    return Answer("Where does the money go?", _plain(f"{usd(whole)} in all: {said}."))


def _biggest(points: Sequence[CostPoint], by: money.GroupBy) -> tuple[str, int]:
    [name] = money.biggest(points, by, 1)
    return name, money.spent(money.grouped(points, by)[name])


def wasted(totals: Totals) -> Answer:
    """How much was paid for what is in no answer, and mostly why."""
    question = "What was wasted, and why?"
    if not money.is_priced([totals]):
        return Answer(question, NO_PRICE)
    if not totals.wasted_nano_usd:
        return Answer(question, "Nothing: every call that was paid for is in an answer.")
    part = share(totals.wasted_nano_usd, totals.spent_nano_usd)
    said = f"{usd(totals.wasted_nano_usd)}, {part} of the bill"
    reasons = sorted(totals.wasted_by_reason.items(), key=lambda pair: (-pair[1], pair[0]))
    if reasons:
        code, nano = reasons[0]
        part = "all" if len(reasons) == 1 else share(nano, totals.wasted_nano_usd)
        said += f", {part} of it for {code_span(code)} ({blame(code)})"
    return Answer(question, _plain(f"{said}."), totals.wasted_nano_usd > CALM_WASTE * totals.spent_nano_usd)


def saved(totals: Totals) -> Answer:
    """What posts that made no new job would have cost."""
    question, again = "What did the queue save?", totals.joined + totals.replayed
    if not again:
        return Answer(question, "Nothing yet: nobody asked the same question twice.")
    would = totals.spent_nano_usd + totals.avoided_nano_usd
    said = f"{usd(totals.avoided_nano_usd)}, {share(totals.avoided_nano_usd, would)} of what it would have been"
    return Answer(question, _plain(f"{said}: {some(again, 'post')} got an answer that was there, or on its way."))


def month(found: Forecast, budgets: Mapping[str, int]) -> Answer:
    """What the month comes to; `budgets` are limits in nano-USD of what the whole tenant may spend in it, by name."""
    if found.end is None:
        said = f"{usd(found.spent)} so far this month. A forecast needs a few whole days of work."
        return Answer(BUDGET, _plain(said), any(found.spent > limit for limit in budgets.values()))
    about = f"This month comes to about {usd(found.end)}"
    reach = f"{usd(found.low)} to {usd(found.high)}" if found.low != found.high else usd(found.end)
    if not budgets:
        return Answer(BUDGET, _plain(f"{about} ({reach}). No budget is set for it."))
    name, limit = min(budgets.items(), key=lambda pair: pair[1])
    over = found.end > limit
    verdict = "more than" if over else "perhaps more than" if (found.high or 0) > limit else "within"
    return Answer(
        BUDGET, _plain(f"{about} ({reach}), {verdict} the {usd(limit)} of {code_span(name)}."),
        (found.high or 0) > limit,
    )  # fmt: skip


def slow(totals: Totals) -> Answer:
    """How long jobs take, and what of it most."""
    question, spent = "Why is it slow?", parts_of(totals.phases)
    whole = sum(spent.values())
    if not whole:
        return Answer(question, "No job that ended tells where its time went.")
    part = max(spent, key=lambda name: spent[name])
    p95 = f"19 of 20 jobs end within {duration(totals.total.p95)}. " if totals.total.p95 else ""
    most = share(round(spent[part] * 1000), round(whole * 1000))
    return Answer(question, f"{p95}Of a job's time {most} is {_WHAT[part]}.")


_WHAT: Final = {
    "start time, budget": "waiting for its own start time, or for a budget",
    "queue": "waiting for a free worker, or for limits of our own",
    "provider's limits": "waiting for the provider's limits",
    "onceq": "spent in onceq itself",
    "first token": "waiting for the provider's first token",
    "writing": "the provider writing",
    "stalls, retries": "gaps in the provider's stream, and pauses after it failed",
}


def to_blame(totals: Totals) -> Answer:
    """Who made jobs slow or fail, most often."""
    question, ended = "Who is to blame?", totals.succeeded + totals.failed + totals.cancelled + totals.expired
    found = sum(totals.verdicts.values())
    if not found:
        return Answer(question, "Nobody: no job was slow or failed for a known reason.")
    worst = max(VERDICTS, key=lambda verdict: totals.verdicts.get(verdict, 0))
    most = totals.verdicts[worst]
    part = f"Of these {share(most, found)}" if most < found else "All of these" if found > 1 else "Of this one"
    return Answer(
        question,
        f"{count(found)} of {some(ended, 'job')} {'was' if found == 1 else 'were'} slow or failed. {part}: "
        f"{VERDICT_WORDS[worst]}.",
        found > SLOW_SHARE * ended,
    )


def _plain(words: str) -> str:
    return words.replace("$", r"\$")
