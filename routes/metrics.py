"""``GET /metrics`` for Prometheus."""

from __future__ import annotations

from litestar import Controller, Response, get
from litestar.di import NamedDependency
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST


class MetricsController(Controller):
    path = "/metrics"
    tags = ("Operations",)

    @get(operation_id="getMetrics", summary="Metrics in Prometheus' text format", media_type="text/plain", sync_to_thread=False)
    def metrics(self, metrics_registry: NamedDependency[CollectorRegistry]) -> Response[bytes]:
        return Response(generate_latest(metrics_registry), headers={"content-type": CONTENT_TYPE_LATEST})
