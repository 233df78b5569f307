"""The metrics: what is started, what is asked of it, what is counted. Each returns a report of interleaved runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from benchmarks import house as houses
from benchmarks.check import ALONE, BARE, BOUNDS, CROWD, DIRECT, POSTS, RELAY, WAITING
from benchmarks.cpu import Meter, wait_for_quiet
from benchmarks.figures import Figures, Report, cpu_per, interleaved, latency_ms, machine, quantile
from benchmarks.house import Address, House
from benchmarks.posting import Load, post
from benchmarks.ratios import Part, Ratio, judged, told_ratios
from benchmarks.scaling import WORKERS, ratios, short, slow, worked_off
from benchmarks.sizing import kinds, month
from benchmarks.soak import BRIEF, WHOLE, Course
from benchmarks.soak import soak as soaked
from benchmarks.streaming import Heard, Way, stream
from benchmarks.waiting import MEASURED, Crowd, waiting

CLIENTS: Final = 2
"""Processes that post."""
STREAMS: Final = 64
PER_MINUTE: Final = 10_000
PER_DAY: Final = (1_000, 10_000, 100_000)


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure."""

    repeats: int = 3
    seconds: float = 8.0
    sustained_s: float = 60.0
    soak: Course = WHOLE
    questions: int = 60
    patience_s: float = 30.0
    measured: int = MEASURED
    sized: int = 2_000
    short_jobs: int = 1_000
    slow_rounds: int = 5
    crowds: Sequence[Crowd] = (
        Crowd(1), Crowd(10_000), Crowd(100_000), Crowd(1_000_000), Crowd(100_000, tenants=10_000),
        Crowd(100_000, lanes=500),
    )  # fmt: skip


QUICK: Final = Effort(
    repeats=1, seconds=2.0, sustained_s=5.0, questions=10, patience_s=0.0, crowds=(Crowd(1), Crowd(2_000)),
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
    with houses.bare() as (address, roles):
        return _posts(address, "", roles, effort.seconds)


def _onceq_posts(effort: Effort, processes: int) -> Figures:
    with houses.running(workers=0, api_processes=processes) as house:
        return _posts(house.api, house.api_key, house.roles, effort.seconds)


def _posts(address: Address, api_key: str, roles: dict[str, int], seconds: float) -> Figures:
    post(Load(address, api_key, STREAMS, 1.0), CLIENTS)  # warm: connections, scripts, first pages of the log
    meter = Meter(roles)
    posted = post(Load(address, api_key, STREAMS, seconds), CLIENTS)
    spent, count = meter.spent(), len(posted.took_s)
    assert not posted.refused, f"{posted.refused} posts were not accepted"
    return {
        "posts_per_s": count / posted.wall_s, **latency_ms(posted.took_s), **cpu_per(spent, count, 1e6, "us_per_post"),
        **machine(spent),
    }  # fmt: skip


def ttft(effort: Effort) -> Report:
    """Time to the first token, through onceq and straight from the provider, by readers at once."""
    with houses.running(workers=2) as house:
        stream(house, "onceq", STREAMS, 2, _answer(5, 0, 20))  # warm: the workers' connections to the provider
        cases = {
            f"{way}, {readers}": partial(_ttft, house, way, readers, effort.questions)
            for readers in (1, 8, STREAMS)
            for way in ("direct", "onceq")
        }
        return interleaved("ttft", cases, effort.repeats, effort.patience_s)


def _ttft(house: House, way: Way, readers: int, questions: int) -> Figures:
    meter = Meter(house.roles)
    heard = stream(house, way, readers, max(3, questions // readers), _answer(5, 100, 100))
    return {**latency_ms([one.first - one.asked for one in heard]), **machine(meter.spent())}


def relay(effort: Effort) -> Report:
    """Tokens through onceq to 64 readers: 2,000 a second, one a read; and as many as it carries, four a read."""
    with houses.running(workers=2) as house:
        stream(house, "onceq", STREAMS, 1, _answer(50, 0, 20))
        seconds = effort.seconds
        cases: dict[str, Callable[[], Figures]] = {}
        for way in ("direct", "onceq"):
            cases[f"{way}, 2,000/s"] = partial(_relay, house, way, 2_000 / STREAMS, seconds)
            cases[f"{way}, full"] = partial(_relay, house, way, 64_000 / STREAMS, seconds / 2)
        return interleaved("relay", cases, effort.repeats, effort.patience_s)


def _relay(house: House, way: Way, tokens_per_s: float, seconds: float) -> Figures:
    tokens = round(tokens_per_s * seconds)
    meter = Meter({**house.roles, "provider": house.simulator_pid})
    heard = stream(house, way, STREAMS, 1, _answer(tokens, tokens_per_s, 200))
    spent, count = meter.spent(), tokens * STREAMS
    return {
        "tokens_per_s": count / _open_s(heard),
        **cpu_per(spent, count / 1_000, 1e3, "ms_per_1000_tokens"),
        **machine(spent),
    }


def _open_s(heard: Sequence[Heard]) -> float:
    """From the first token of all to the last end."""
    return max(one.ended for one in heard) - min(one.first for one in heard)


def sustained(effort: Effort) -> Report:
    """10,000 posts a minute with workers at work: the 202's times, and what became of the jobs."""
    return interleaved("sustained", {"onceq": partial(_sustained, effort.sustained_s)}, 1, effort.patience_s)


def _sustained(seconds: float) -> Figures:
    rate = PER_MINUTE / 60
    with houses.running(workers=2, worker_concurrency=128) as house:
        load = Load(house.api, house.api_key, STREAMS, seconds, rate, _answer(20, 60, 150))
        meter = Meter(house.roles)
        began = time.monotonic()
        posted = post(load, CLIENTS)
        posted_s = time.monotonic() - began
        ended = houses.wait_for_idle(house, len(posted.took_s))
        ended_s = time.monotonic() - began
        spent, count = meter.spent(), len(posted.took_s)
    return {
        "posted": count, "refused": posted.refused, "succeeded": ended["succeeded"], "calls": ended["calls"],
        **latency_ms(posted.took_s), "p999_ms": quantile(posted.took_s, 0.999) * 1e3,
        "last_end_after_s": ended_s - posted_s,
        **cpu_per(spent, count, 1e3, "ms_per_job"), **machine(spent),
    }  # fmt: skip


def _answer(tokens: int, tokens_per_s: float, ttft_ms: int) -> str:
    """What the simulator is asked for; 0 a second is as fast as it can."""
    return f"[[sim tokens={tokens} tps={tokens_per_s:g} ttft_ms={ttft_ms}]]"


def crowds(effort: Effort) -> Report:
    """Whether what waits costs something: by jobs, tenants, lanes."""
    cases = {
        f"{crowd.jobs:,} jobs, {crowd.tenants:,} tenants, {crowd.lanes} lanes": partial(waiting, crowd, effort.measured)
        for crowd in effort.crowds
    }  # fmt: skip
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
        ALONE: partial(waiting, Crowd(1), effort.measured),
        CROWD: partial(waiting, Crowd(WAITING), effort.measured),
    }
    return judged(interleaved("check", cases, effort.repeats, min(effort.patience_s, 5.0)), BOUNDS)


def soak(effort: Effort) -> Report:
    """Whether anything grows: see soak.py."""
    wait_for_quiet(effort.patience_s)
    return soaked(effort.soak)


def _relay_alone(way: Way, seconds: float) -> Figures:
    with houses.running(workers=2) as house:
        stream(house, way, STREAMS, 1, _answer(50, 0, 20))
        return _relay(house, way, 2_000 / STREAMS, seconds)


METRICS: Final[dict[str, Callable[[Effort], Report]]] = {
    "posts": posts, "ttft": ttft, "relay": relay, "sustained": sustained, "crowds": crowds, "sizing": sizing,
    "scaling": scaling,
}  # fmt: skip
"""What is measured when none is named."""
ASKED: Final[dict[str, Callable[[Effort], Report]]] = {"check": check, "soak": soak}
"""What is measured only when it is named, and may end with faults."""
