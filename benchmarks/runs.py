"""One run of measuring: a load on something that runs, and what it took and cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from benchmarks.cpu import Meter
from benchmarks.deployment import Address, Deployment
from benchmarks.figures import Figures, cpu_per, latency_ms, machine
from benchmarks.posting import Load, post
from benchmarks.streaming import StreamTiming, Way, stream

CLIENTS: Final = 2
"""Processes that post."""
STREAMS: Final = 64


def posted(address: Address, api_key: str, roles: Mapping[str, int], seconds: float) -> Figures:
    """As many posts as go through the door in that time, from 64 connections."""
    post(Load(address, api_key, STREAMS, 1.0), CLIENTS)  # warm: connections, scripts, first pages of the log
    meter = Meter(roles)
    answers = post(Load(address, api_key, STREAMS, seconds), CLIENTS)
    spent, count = meter.spent(), len(answers.took_s)
    assert not answers.refused, f"{answers.refused} posts were not accepted"
    return {
        "posts_per_s": count / answers.wall_s, **latency_ms(answers.took_s),
        **cpu_per(spent, count, 1e6, "us_per_post"), **machine(spent),
    }  # fmt: skip


def first_tokens(deployment: Deployment, way: Way, readers: int, questions: int) -> Figures:
    """Time to the first token of `questions` in all; the provider waits 100 ms of it."""
    meter = Meter(deployment.roles)
    timings = stream(deployment, way, readers, max(3, questions // readers), answer(5, 100, 100))
    return {**latency_ms([one.first - one.asked for one in timings]), **machine(meter.spent())}


def relayed(deployment: Deployment, way: Way, tokens_per_s: float, seconds: float) -> Figures:
    """64 streams of so many tokens a second each, for so long: what came of them, and the CPU of 1,000."""
    tokens = round(tokens_per_s * seconds)
    meter = Meter({**deployment.roles, "provider": deployment.simulator_pid})
    timings = stream(deployment, way, STREAMS, 1, answer(tokens, tokens_per_s, 200))
    spent, count = meter.spent(), tokens * STREAMS
    return {
        "tokens_per_s": count / _open_s(timings),
        **cpu_per(spent, count / 1_000, 1e3, "ms_per_1000_tokens"),
        **machine(spent),
    }


def _open_s(timings: Sequence[StreamTiming]) -> float:
    """From the first token of all to the last end."""
    return max(one.ended for one in timings) - min(one.first for one in timings)


def answer(tokens: int, tokens_per_s: float, ttft_ms: int) -> str:
    """What the simulator is asked for; 0 a second is as fast as it can."""
    return f"[[sim tokens={tokens} tps={tokens_per_s:g} ttft_ms={ttft_ms}]]"
