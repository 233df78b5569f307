"""GET /metrics for Prometheus: read from Redis at the scrape, so any process gives the same queue figures.

What only this process knows (its readers, its posts) carries its `pid` as a label.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from onceq.wire import WorkerInfo
from onceq_service.api import documented as doc
from onceq_service.api.auth import Operator
from onceq_service.api.service import In, Service

router = APIRouter(tags=["metrics"])


class Snapshot(Collector):
    """Metrics that were read before; prometheus_client only writes them down."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        """The metrics."""
        return self._metrics


@router.get(
    "/metrics",
    response_class=Response,
    responses=doc.problems(401, 403, 503) | {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def get_metrics(service: In, _: Operator) -> Response:
    """The whole queue's gauges and this process's counters."""
    registry = CollectorRegistry()
    registry.register(
        Snapshot([*await _queue(service), *_workers(await service.store.sums.workers()), *_process(service)])
    )
    return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _queue(service: Service) -> list[Metric]:
    sums = service.store.sums
    queued = GaugeMetricFamily("onceq_jobs_queued", "Jobs that wait, by band.", labels=["band"])
    for band, count in sorted((await sums.queued_by_band()).items()):
        queued.add_metric([band], count)
    used, limit = await service.store.memory()
    facts = service.facts
    return [
        queued,
        _gauge("onceq_jobs_running", "Jobs that a worker holds.", await sums.running()),
        _gauge("onceq_jobs_waiting_retry", "Jobs that wait for a retry's time or their own.", await sums.delayed()),
        _gauge("onceq_redis_memory_bytes", "Memory that Redis uses.", used),
        _gauge("onceq_redis_memory_limit_bytes", "Redis's maxmemory, 0 for none.", limit),
        _gauge(
            "onceq_durability_strict", "1 when a 202 survives a crash of Redis.", _is_strict(facts and facts.durability)
        ),
    ]


def _is_strict(durability: str | None) -> int:
    return int(durability == "strict")


def _workers(workers: list[WorkerInfo]) -> list[Metric]:
    return [
        _gauge("onceq_workers", "Live worker processes.", len(workers)),
        _gauge("onceq_worker_slots", "Jobs that they can run at once.", sum(w.capacity for w in workers)),
    ]


def _process(service: Service) -> list[Metric]:
    pid = str(os.getpid())
    streams = GaugeMetricFamily("onceq_api_streams", "Open event streams of an API process.", labels=["pid"])
    streams.add_metric([pid], service.streams)
    posts = CounterMetricFamily("onceq_api_posts", "Accepted posts by what they did.", labels=["pid", "disposition"])
    for disposition in ("created", "joined", "replayed"):
        posts.add_metric([pid, disposition], service.posts[disposition])
    return [streams, posts]


def _gauge(name: str, says: str, value: float) -> Metric:
    return GaugeMetricFamily(name, says, value=value)
