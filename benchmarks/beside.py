"""onceq beside what else stands between an app and its provider, in one interleaved run, and the chart of it.

Each contestant has one API process and one worker process, and a Redis that writes nothing to disk; onceq takes part a
second time as it comes, with `appendfsync always`. What is not installed is left out, with a sentence that says how.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Final, Literal

from benchmarks import deployment as deployments
from benchmarks import peers
from benchmarks.chart import Chart, Row
from benchmarks.deployment import Deployment
from benchmarks.figures import Figures, Report, interleaved
from benchmarks.ratios import Part, Ratio, told_ratios
from benchmarks.runs import STREAMS, answer, first_tokens, posted, relayed
from benchmarks.streaming import StreamError, Way, stream
from onceq_service.embedded.redis_binary import find_redis

PEERS: Final = "peers"
SLOTS: Final = 128
DIRECT: Final = "the provider"
LITELLM: Final = "LiteLLM"
NODE: Final = "Node stack"
ONCEQ: Final = "onceq"
ALWAYS: Final = "onceq, always"
TTFT: Final = "ttft_{}_readers_{}_ms"
CPU: Final = "cpu_ms_per_1000_tokens"
MOST: Final = "tokens_per_s"


@dataclass(frozen=True, slots=True)
class Contestant:
    """How it is started, with so many worker processes, and what it is: a queue answers before the call is made."""

    kind: Literal["provider", "proxy", "queue"]
    started: Callable[[int], AbstractContextManager[Deployment]]

    @property
    def way(self) -> Way:
        """How it is asked."""
        return "onceq" if self.kind == "queue" else "direct"


def contestants() -> dict[str, Contestant]:
    """By name, those that are installed; says on stderr which are not."""
    found = {DIRECT: Contestant("provider", partial(_onceq, aof=False))}
    if peers.litellm_version():
        found[LITELLM] = Contestant("proxy", lambda _: peers.litellm_proxy())
    else:
        print(f"LiteLLM is left out; to install it: {peers.HOW_LITELLM}", file=sys.stderr)
    if peers.node_version():
        found[NODE] = Contestant("queue", partial(peers.node_stack, concurrency=SLOTS))
    else:
        print(f"The Node stack is left out; to install it: {peers.HOW_NODE}", file=sys.stderr)
    found[ONCEQ] = Contestant("queue", partial(_onceq, aof=False))
    found[ALWAYS] = Contestant("queue", partial(_onceq, aof=True))
    return found


def _onceq(workers: int, *, aof: bool) -> AbstractContextManager[Deployment]:
    return deployments.running(workers=workers, worker_concurrency=SLOTS, aof=aof)


def beside(seconds: float, questions: int, repeats: int, patience_s: float) -> Report:
    """All contestants: posts for `seconds`, first tokens of so many questions, tokens for as long."""
    cases = {name: partial(measured, one, seconds, questions) for name, one in contestants().items()}
    return told(interleaved(PEERS, cases, repeats, patience_s))


def told(report: Report) -> Report:
    """With the ratios of onceq to the Node stack, where that took part."""
    return replace(report, ratios=told_ratios(report, list(_ratios(report))))


def measured(one: Contestant, seconds: float, questions: int) -> Figures:
    """All that can be measured of it, one after the other."""
    return {**(_posts(one, seconds) if one.kind == "queue" else {}), **_streams(one, seconds, questions)}


def _posts(one: Contestant, seconds: float) -> Figures:
    with one.started(0) as deployment:
        run = posted(deployment.api, deployment.api_key, deployment.roles, seconds)
    cpu = sum(run[f"{role}_cpu_us_per_post"] for role in deployment.roles)
    return {name: run[name] for name in ("posts_per_s", "p50_ms", "p99_ms")} | {"cpu_us_per_post": cpu}


def _streams(one: Contestant, seconds: float, questions: int) -> Figures:
    with one.started(1) as deployment:
        stream(deployment, one.way, STREAMS, 2, answer(5, 0, 20))  # warm: connections to the provider
        found: dict[str, float] = {}
        for readers in (1, STREAMS):
            run = first_tokens(deployment, one.way, readers, questions)
            found |= {TTFT.format(readers, p): run[f"{p}_ms"] for p in ("p50", "p99")}
        slow = relayed(deployment, one.way, 2_000 / STREAMS, seconds)
        full = flat_out(one, deployment, seconds / 4)  # a proxy that falls behind takes many times as long
        if one.kind != "provider":
            found[CPU] = sum(slow[f"{role}_cpu_ms_per_1000_tokens"] for role in deployment.roles)
    foreign = max(run["foreign_cores"] for run in (slow, full))
    return found | {MOST: full["tokens_per_s"], "foreign_cores": foreign}


def flat_out(one: Contestant, deployment: Deployment, seconds: float) -> Figures:
    """A proxy may lose a call under this load, which leaves no figure: it is asked once more, and that is said."""
    try:
        return relayed(deployment, one.way, 64_000 / STREAMS, seconds)
    except StreamError as exc:
        if one.kind != "proxy":
            raise
        print(f"  a stream of the proxy failed, once more: {exc}", file=sys.stderr, flush=True)
        return relayed(deployment, one.way, 64_000 / STREAMS, seconds)


def _ratios(report: Report) -> Iterator[Ratio]:
    if NODE not in report.runs:
        return
    for name, figure in _FIGURES.items():
        yield Ratio(f"{name}: {ONCEQ} / {NODE}", Part(ONCEQ, [figure]), Part(NODE, [figure]))


_FIGURES: Final = {
    "202s a second, 64 connections": "posts_per_s",
    "p99 of those 202s": "p99_ms",
    "CPU a 202, API and Redis": "cpu_us_per_post",
    "time to first token, 1 reader, p50": TTFT.format(1, "p50"),
    "time to first token, 64 readers, p50": TTFT.format(STREAMS, "p50"),
    "CPU of the stack, 1,000 tokens at 2,000/s": CPU,
    "tokens a second, 64 streams offered 64,000": MOST,
}
_MORE: Final = {"posts_per_s": "posts a second", MOST: "tokens a second"}


def rows(report: Report) -> list[Row]:
    """What is drawn, the contestants in the report's order."""
    medians = report.medians()
    found: list[Row] = []
    for name, figure in _FIGURES.items():
        unit = _MORE.get(figure) or ("us" if "_us_" in figure else "ms")
        better = "more" if figure in _MORE else "less"
        found.append(Row(name, unit, better, [case.get(figure) for case in medians.values()]))
    return found


def chart(report: Report) -> Chart:
    """The report as a picture, with the machine, the versions and the settings it is of."""
    title = "onceq beside what else stands between an app and its provider"
    return Chart(title, list(report.runs), rows(report), _notes(report))


def _notes(report: Report) -> Sequence[str]:
    foreign = max(run["foreign_cores"] for runs in report.runs.values() for run in runs)
    rounds = len(next(iter(report.runs.values())))
    return [
        f"{datetime.now(UTC):%d %B %Y}, {os.cpu_count()} cores of {platform.machine()}, {platform.system()}; "
        f"medians of {rounds}; others used up to {foreign:.2f} cores.",
        "; ".join(_versions()) + ".",
        "One API and one worker process each; Redis without AOF but for `always`, which is onceq as it comes.",
    ]


def _versions() -> Iterator[str]:
    redis = find_redis()
    yield f"Python {platform.python_version()}, {redis.name} {'.'.join(map(str, redis.version))}"
    if bullmq := peers.node_version():
        yield f"Node {_first_line('node', '--version')}, BullMQ {bullmq}"
    if litellm := peers.litellm_version():
        yield f"LiteLLM {litellm}"


def _first_line(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    return next(iter(done.stdout.splitlines()), "of an unknown version")
