"""The metrics: what is started, what is asked of it, what is counted. Each returns a report of interleaved runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from benchmarks import deployment as deployments
from benchmarks.beside import PEERS
from benchmarks.beside import beside as all_beside
from benchmarks.check import ALONE, BACKLOG, BARE, BOUNDS, DIRECT, POSTS, RELAY, WAITING
from benchmarks.cpu import Meter, wait_for_quiet
from benchmarks.figures import Figures, Report, cpu_per, interleaved, latency_ms, machine, quantile
from benchmarks.posting import Load, post
from benchmarks.ratios import Part, Ratio, judged, told_ratios
from benchmarks.runs import CLIENTS, STREAMS, answer, first_tokens, posted, relayed
from benchmarks.scaling import WORKERS, ratios, short, slow, worked_off
from benchmarks.sizing import kinds, month
from benchmarks.soak import BRIEF, WHOLE, SoakPlan
from benchmarks.soak import soak as soaked
from benchmarks.streaming import Way, stream
from benchmarks.waiting import MEASURED, Backlog, waiting

PER_MINUTE: Final = 10_000
PER_DAY: Final = (1_000, 10_000, 100_000)


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure."""

    repeats: int = 3
    seconds: float = 8.0
    sustained_s: float = 60.0
    soak: SoakPlan = WHOLE
    questions: int = 60
    patience_s: float = 30.0
    measured: int = MEASURED
    sized: int = 2_000
    short_jobs: int = 1_000
    slow_rounds: int = 5
    backlogs: Sequence[Backlog] = (
        Backlog(1), Backlog(10_000), Backlog(100_000), Backlog(1_000_000), Backlog(100_000, tenants=10_000),
        Backlog(100_000, lanes=500),
    )  # fmt: skip


QUICK: Final = Effort(
    repeats=1, seconds=1.0, sustained_s=3.0, questions=10, patience_s=0.0, backlogs=(Backlog(1), Backlog(2_000)),
    measured=400, sized=100, short_jobs=100, slow_rounds=1, soak=BRIEF,
)  # fmt: skip


def posts(effort: Effort) -> Report:
    """As many posts as go through the door, against uvicorn with one SET; no worker takes the jobs."""
    cases = {
        "bare": partial(_bare_posts, effort),
        "onceq": partial(_onceq_posts, effort, 1),
        "onceq, 2 processes": partial(_onceq_posts, effort, 2),
    }
    return interleaved("posts", cases, effort.repeats, effort.patience_s)


def _bare_posts(effort: Effort) -> Figures:
    with deployments.bare() as (address, roles):
        return posted(address, "", roles, effort.seconds)


def _onceq_posts(effort: Effort, processes: int) -> Figures:
    with deployments.running(workers=0, api_processes=processes) as deployment:
        return posted(deployment.api, deployment.api_key, deployment.roles, effort.seconds)


def ttft(effort: Effort) -> Report:
    """Time to the first token, through onceq and straight from the provider, by readers at once."""
    with deployments.running(workers=2) as deployment:
        stream(deployment, "onceq", STREAMS, 2, answer(5, 0, 20))  # warm: the workers' connections to the provider
        cases = {
            f"{way}, {readers}": partial(first_tokens, deployment, way, readers, effort.questions)
            for readers in (1, 8, STREAMS)
            for way in ("direct", "onceq")
        }
        return interleaved("ttft", cases, effort.repeats, effort.patience_s)


def relay(effort: Effort) -> Report:
    """Tokens through onceq to 64 readers: 2,000 a second, one a read; and as many as it carries, four a read."""
    with deployments.running(workers=2) as deployment:
        stream(deployment, "onceq", STREAMS, 1, answer(50, 0, 20))
        seconds = effort.seconds
        cases: dict[str, Callable[[], Figures]] = {}
        for way in ("direct", "onceq"):
            cases[f"{way}, 2,000/s"] = partial(relayed, deployment, way, 2_000 / STREAMS, seconds)
            cases[f"{way}, full"] = partial(relayed, deployment, way, 64_000 / STREAMS, seconds / 2)
        return interleaved("relay", cases, effort.repeats, effort.patience_s)


def sustained(effort: Effort) -> Report:
    """10,000 posts a minute with workers at work: the 202's times, and what became of the jobs."""
    return interleaved("sustained", {"onceq": partial(_sustained, effort.sustained_s)}, 1, effort.patience_s)


def _sustained(seconds: float) -> Figures:
    rate = PER_MINUTE / 60
    with deployments.running(workers=2, worker_concurrency=128) as deployment:
        load = Load(deployment.api, deployment.api_key, STREAMS, seconds, rate, answer(20, 60, 150))
        meter = Meter(deployment.roles)
        began = time.monotonic()
        answers = post(load, CLIENTS)
        posted_s = time.monotonic() - began
        ended = deployments.wait_for_idle(deployment, len(answers.took_s))
        ended_s = time.monotonic() - began
        spent, count = meter.spent(), len(answers.took_s)
    return {
        "posted": count, "refused": answers.refused, "succeeded": ended["succeeded"], "calls": ended["calls"],
        **latency_ms(answers.took_s), "p999_ms": quantile(answers.took_s, 0.999) * 1e3,
        "last_end_after_s": ended_s - posted_s,
        **cpu_per(spent, count, 1e3, "ms_per_job"), **machine(spent),
    }  # fmt: skip


def backlogs(effort: Effort) -> Report:
    """Whether what waits costs something: by jobs, tenants, lanes."""
    cases = {
        f"{one.jobs:,} jobs, {one.tenants:,} tenants, {one.lanes} lanes": partial(waiting, one, effort.measured)
        for one in effort.backlogs
    }
    return interleaved("crowds", cases, 1, effort.patience_s)


def sizing(effort: Effort) -> Report:
    """How much Redis a month needs: what one of each kind takes, and what jobs a day come to."""
    kind = kinds(effort.sized)
    cases = {f"{per_day:,} jobs a day": month(kind, per_day) for per_day in PER_DAY}
    return Report("sizing", {name: [figures] for name, figures in cases.items()}, ratios=kind)


def scaling(effort: Effort) -> Report:
    """What more worker and API processes give, and whether a job costs the same then."""
    answers = (short(effort.short_jobs), slow(effort.slow_rounds))
    cases: dict[str, Callable[[], Figures]] = {
        one.case(workers): partial(worked_off, one, workers) for workers in WORKERS for one in answers
    }
    cases |= {f"posts, {n} API process{'es' * (n > 1)}": partial(_onceq_posts, effort, n) for n in (1, 2)}
    report = interleaved("scaling", cases, effort.repeats, effort.patience_s)
    one, two = (Part(case, ("posts_per_s",)) for case in list(cases)[-2:])
    wanted = [*ratios(*answers), Ratio("posts a second: 2 API processes / 1", two, one)]
    return replace(report, ratios=told_ratios(report, wanted))


def check(effort: Effort) -> Report:
    """What costs how many times its floor; the report has a sentence for each that is beyond its bound."""
    cases: dict[str, Callable[[], Figures]] = {
        BARE: partial(_bare_posts, effort),
        POSTS: partial(_onceq_posts, effort, 1),
        DIRECT: partial(_relay_alone, "direct", effort.seconds),
        RELAY: partial(_relay_alone, "onceq", effort.seconds),
        ALONE: partial(waiting, Backlog(1), effort.measured),
        BACKLOG: partial(waiting, Backlog(WAITING), effort.measured),
    }
    return judged(interleaved("check", cases, effort.repeats, min(effort.patience_s, 5.0)), BOUNDS)


def soak(effort: Effort) -> Report:
    """Whether anything grows: see soak.py."""
    wait_for_quiet(effort.patience_s)
    return soaked(effort.soak)


def beside(effort: Effort) -> Report:
    """onceq beside its peers: see beside.py."""
    return all_beside(effort.seconds, effort.questions, effort.repeats, effort.patience_s)


def _relay_alone(way: Way, seconds: float) -> Figures:
    with deployments.running(workers=2) as deployment:
        stream(deployment, way, STREAMS, 1, answer(50, 0, 20))
        return relayed(deployment, way, 2_000 / STREAMS, seconds)


METRICS: Final[dict[str, Callable[[Effort], Report]]] = {
    "posts": posts, "ttft": ttft, "relay": relay, "sustained": sustained, "crowds": backlogs, "sizing": sizing,
    "scaling": scaling,
}  # fmt: skip
"""What is measured when none is named."""
ASKED: Final[dict[str, Callable[[Effort], Report]]] = {"check": check, "soak": soak, PEERS: beside}
"""What is measured only when it is named."""
