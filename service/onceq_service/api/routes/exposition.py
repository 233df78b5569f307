"""What /metrics says, as Prometheus families: pure, from one reading of the queue.

Names carry their unit. Labels are few and bounded: providers of the configuration, bands, states, error codes; never a
job, a key or a model, which clients choose, and a tenant only beside its budgets. Real and simulated work have
different labels, so no sum of a query that names `simulated` mixes them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from onceq.wire import PHASES, VERDICTS, LaneInfo, WorkerInfo
from onceq_service.store import ServerFacts
from onceq_service.store.gauges import Reading, Series
from onceq_service.store.stats import BUCKETS, edge_s

SERIES: Final = ("provider", "band", "simulated")
EDGES: Final = range(24, 69, 4)
"""Of the rollups' buckets, a quarter octave each, those at whose lower edges ours end: 63 ms, doubling, to 131 s."""
NANO: Final = 1_000_000_000
Counted = Mapping[Series, Mapping[str, int]]


def families(read: Reading, facts: ServerFacts) -> list[Metric]:
    """All of them."""
    return [
        *_queue(read),
        *_lanes(read),
        *_budgets(read),
        *_processes(read),
        *_redis(facts),
        *_work(read.counters),
        *_times(read.counters),
    ]


def _queue(read: Reading) -> Iterable[Metric]:
    bands = sorted(read.waiting.items())
    yield _gauges("onceq_jobs_queued", "Jobs that wait.", ("band",), {(b,): w.jobs for b, w in bands})
    yield _gauges(
        "onceq_oldest_queued_seconds", "For how long the oldest queued job could have started.",
        ("band",), {(b,): w.oldest_s for b, w in bands},
    )  # fmt: skip
    yield _gauges(
        "onceq_band_paused", "1 when the band starts nothing.",
        ("band",), {(b,): int(b in read.paused_bands) for b, _ in bands},
    )  # fmt: skip
    yield _gauge("onceq_jobs_running", "Jobs that a worker holds.", read.running)
    yield _gauge("onceq_jobs_waiting_retry", "Queued jobs that wait for a retry's time or their own.", read.delayed)
    yield _gauge("onceq_dead_letters", "Failed jobs that nobody has replayed.", read.dead_letters)


def _lanes(read: Reading) -> Iterable[Metric]:
    """Lanes that started a job in the last days; a lane is a model, so they are counted by provider."""
    yield _lanes_where("onceq_lanes", "Lanes that are known.", read.lanes, lambda _: True)
    yield _lanes_where(
        "onceq_lanes_braked", "Lanes that the provider's answers hold back now.", read.lanes,
        lambda lane: lane.braked_until is not None and lane.braked_until.timestamp() * 1000 > read.at_ms,
    )  # fmt: skip
    yield _lanes_where("onceq_lanes_paused", "Lanes that a person has paused.", read.lanes, lambda lane: lane.paused)


def _budgets(read: Reading) -> Iterable[Metric]:
    """Of the present period, in US dollars. Budgets are named by admins, a hundred of them at most are shown."""
    names = ("tenant", "budget", "mode", "simulated")
    uses = [(b, use, sim) for b in read.budgets for use, sim in ((b.use, "false"), (b.simulated_use, "true"))]
    rows = [
        (
            (b.tenant, b.name, b.mode, sim),
            b.limit_nano_usd,
            use.spent_nano_usd,
            use.reserved_nano_usd,
            use.unsure_nano_usd,
        )
        for b, use, sim in uses
    ]
    says = {
        "limit": "What the budget may spend in its period.",
        "spent": "What it has spent.",
        "reserved": "What it holds for calls that have not ended.",
        "unsure": "What calls without a report may have cost beyond what is booked.",
    }
    for n, (what, about) in enumerate(says.items()):
        values = {labels: nano[n] / NANO for labels, *nano in rows}
        yield _gauges(f"onceq_budget_{what}_usd", about, names, values)


def _lanes_where(name: str, says: str, lanes: Sequence[LaneInfo], fits: Callable[[LaneInfo], bool]) -> Metric:
    known = dict.fromkeys(sorted(lane.lane.partition("/")[0] for lane in lanes), 0)
    found = Counter(lane.lane.partition("/")[0] for lane in lanes if fits(lane))
    return _gauges(name, says, ("provider",), {(provider,): found[provider] for provider in known})


def _processes(read: Reading) -> Iterable[Metric]:
    workers: list[WorkerInfo] = read.workers
    yield _gauge("onceq_workers", "Live worker processes.", len(workers))
    yield _gauge("onceq_worker_slots", "Jobs that they can run at once.", sum(w.capacity for w in workers))
    serving = Counter(provider for w in workers for provider in w.providers)
    yield _gauges(
        "onceq_provider_workers", "Live worker processes that serve a provider.",
        ("provider",), {(provider,): count for provider, count in sorted(serving.items())},
    )  # fmt: skip
    yield _gauge("onceq_api_processes", "Live API processes.", len(read.streams))
    yield _gauge("onceq_api_streams", "Open event streams of all API processes.", sum(read.streams))


def _redis(facts: ServerFacts) -> Iterable[Metric]:
    yield _gauge("onceq_redis_memory_bytes", "Memory that Redis uses.", facts.used_memory)
    yield _gauge("onceq_redis_memory_limit_bytes", "Redis's maxmemory, 0 for none.", facts.maxmemory)
    strict = int(facts.durability == "strict")
    yield _gauge("onceq_durability_strict", "1 when a 202 survives a crash of Redis.", strict)


def _work(counted: Counted) -> Iterable[Metric]:
    posts = {"jobs": "created", "joined": "joined", "replayed": "replayed"}
    yield _counter("onceq_posts", "Accepted posts by what they did.", counted, "disposition", posts)
    states = {state: state for state in ("succeeded", "failed", "cancelled", "expired")}
    yield _counter("onceq_jobs_ended", "Jobs that reached their end.", counted, "state", states)
    yield _counter("onceq_tries", "Requests to providers.", counted, "", {"tries": ""})
    yield _counter("onceq_calls", "Tries that may be billed.", counted, "", {"calls": ""})
    kinds = {"in": "input", "out": "output", "cached": "cached", "cwrite": "cache_write", "reasoning": "reasoning"}
    yield _counter("onceq_tokens", "Tokens of billed calls; cached and cache_write are input too, reasoning output.",
                   counted, "kind", kinds)  # fmt: skip
    for name, says in (
        ("spent", "What calls cost."), ("wasted", "What was spent on output that is in no answer."),
        ("avoided", "What joined and replayed posts would have cost."),
    ):  # fmt: skip
        yield _counter(f"onceq_{name}_usd", f"{says} In US dollars.", counted, "", {name: ""}, 1 / NANO)
    why = {name: name[2:] for sums in counted.values() for name in sorted(sums) if name.startswith("w:")}
    yield _counter("onceq_wasted_by_reason_usd", "The same waste by its reason. In US dollars.",
                   counted, "reason", why, 1 / NANO)  # fmt: skip
    yield _counter("onceq_unpriced_calls", "Billed calls without a known price.", counted, "", {"unpriced": ""})
    codes = {name: name[2:] for sums in counted.values() for name in sorted(sums) if name.startswith("e:")}
    yield _counter("onceq_job_errors", "Jobs that ended with an error.", counted, "code", codes)
    verdicts = {f"v:{verdict}": verdict for verdict in VERDICTS}
    yield _counter("onceq_job_verdicts", "Slow or failed jobs by who is to blame.", counted, "verdict", verdicts)


def _times(counted: Counted) -> Iterable[Metric]:
    yield _histogram("onceq_ttft_seconds", "From the post to the first token.", counted, "t")
    yield _histogram("onceq_job_seconds", "From the post to the end of the job.", counted, "d")
    phases = {f"p:{phase}": phase for phase in PHASES}
    yield _counter("onceq_job_phase_seconds", "Where the time of jobs that have ended went.",
                   counted, "phase", phases, 1 / 1_000)  # fmt: skip


def _counter(
    name: str, says: str, counted: Counted, label: str, kinds: Mapping[str, str], unit: float = 1
) -> CounterMetricFamily:
    """`kinds`: the rollups' name -> the value of `label`; without a label, one name."""
    family = CounterMetricFamily(name, says, labels=[*SERIES, *([label] if label else [])])
    for series, sums in _sorted(counted):
        for key, kind in kinds.items():
            family.add_metric([*_labels(series), *([kind] if label else [])], sums.get(key, 0) * unit)
    return family


def _histogram(name: str, says: str, counted: Counted, prefix: str) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, says, labels=SERIES)
    for series, sums in _sorted(counted):
        counts = [sums.get(f"{prefix}{n}", 0) for n in range(BUCKETS)]
        buckets = [(f"{edge_s(n):g}", float(sum(counts[:n]))) for n in EDGES]
        total = [("+Inf", float(sum(counts)))]
        family.add_metric(_labels(series), [*buckets, *total], sum_value=sums.get(f"{prefix}_ms", 0) / 1000)
    return family


def _sorted(counted: Counted) -> list[tuple[Series, Mapping[str, int]]]:
    return sorted(counted.items(), key=lambda one: _labels(one[0]))


def _labels(series: Series) -> list[str]:
    return [series.provider, series.band, str(series.simulated).lower()]


def _gauge(name: str, says: str, value: float) -> Metric:
    return GaugeMetricFamily(name, says, value=value)


def _gauges(name: str, says: str, labels: Sequence[str], values: Mapping[tuple[str, ...], float]) -> Metric:
    family = GaugeMetricFamily(name, says, labels=labels)
    for named, value in values.items():
        family.add_metric(named, value)
    return family
