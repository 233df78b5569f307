"""GET /metrics for Prometheus: read from Redis at the scrape, so every process of every replica says the same."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from onceq_service.api.auth import Operator
from onceq_service.api.openapi import documented as doc
from onceq_service.api.routes.exposition import families
from onceq_service.api.service import In

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
    """The whole queue, over all tenants: what waits, runs and serves now, and what was done and spent so far."""
    await service.say_api()
    reading = await service.store.gauges.read(service.settings.result_ttl_s)
    registry = CollectorRegistry()
    registry.register(Snapshot(families(reading, await service.store.inspect())))
    return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
