"""What the gateway counts, in a registry of its own, for Prometheus to read."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from prometheus_client import CollectorRegistry, Gauge, Histogram
from prometheus_client import Counter as PrometheusCounter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
UNMATCHED = "unmatched"


class ModelState(Protocol):
    """The part of the pool's state of one model that is shown here; ``memory`` is bytes by device (``host``, ``cuda:0`` …)."""

    @property
    def model_id(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def memory(self) -> dict[str, int]: ...
    @property
    def active(self) -> int: ...
    @property
    def waiting(self) -> int: ...


class Used(Protocol):
    """What one key has used of one model since the start: tokens by kind, and their cost."""

    @property
    def key(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def tokens(self) -> dict[str, int]: ...
    @property
    def cost(self) -> float: ...


class Crowd(Protocol):
    """Who is connected, and how many were turned away."""

    @property
    def connected(self) -> int: ...
    @property
    def refused(self) -> int: ...


class Metrics:
    """Counters and histograms of requests, and the models' states at the moment of reading.

    Labels come from closed sets (route templates, configured models and keys, statuses): a client cannot make new series.
    """

    def __init__(
        self,
        states: Callable[[], Iterable[ModelState]] = tuple,
        used: Callable[[], Iterable[Used]] = tuple,
        crowd: Crowd | None = None,
    ) -> None:
        self.registry = CollectorRegistry()
        labels = ("route", "status", "model")
        self._requests = PrometheusCounter("openai_compat_requests", "Requests answered.", labels, registry=self.registry)
        self._duration = Histogram(
            "openai_compat_request_duration_seconds",
            "Time to the last byte of an answer.",
            ("route", "model"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._first_byte = Histogram(
            "openai_compat_first_byte_seconds",
            "Time to the first byte of an answer's body.",
            ("route", "model"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._series: dict[tuple[str, int, str], tuple[PrometheusCounter, Histogram, Histogram]] = {}  # found by label slowly
        self.in_flight = 0
        in_flight = Gauge("openai_compat_requests_in_flight", "Requests being answered.", registry=self.registry)
        in_flight.set_function(lambda: self.in_flight)
        tasks = Gauge("openai_compat_event_loop_tasks", "Tasks of the gateway's event loop.", registry=self.registry)
        tasks.set_function(_tasks)
        self.registry.register(_ModelCollector(states))
        self.registry.register(_UsageCollector(used))
        if crowd is not None:
            self.registry.register(_CrowdCollector(crowd))

    def observe(self, *, route: str, status: int, model: str, duration: float, first_byte: float | None) -> None:
        """Count one answered request; times in seconds."""
        series = self._series.get((route, status, model))
        if series is None:
            series = self._series[route, status, model] = (
                self._requests.labels(route, str(status), model),
                self._duration.labels(route, model),
                self._first_byte.labels(route, model),
            )
        requests, durations, first_bytes = series
        requests.inc()
        durations.observe(duration)
        if first_byte is not None:
            first_bytes.observe(first_byte)


def _tasks() -> int:
    """Read where the loop runs; elsewhere there is nothing to count."""
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:
        return 0


class _ModelCollector(Collector):
    def __init__(self, states: Callable[[], Iterable[ModelState]]) -> None:
        self._states = states

    def collect(self) -> Iterator[GaugeMetricFamily]:
        models = tuple(self._states())
        states = GaugeMetricFamily("openai_compat_models", "Models by state.", labels=("state",))
        for state, count in sorted(Counter(model.state for model in models).items()):
            states.add_metric((state,), count)
        yield states
        memory = GaugeMetricFamily("openai_compat_model_memory_bytes", "Memory held by a model.", labels=("model", "device"))
        for model in models:
            for device, held in model.memory.items():
                memory.add_metric((model.model_id, device), held)
        yield memory
        active = GaugeMetricFamily("openai_compat_model_active", "Requests that a model works on.", labels=("model",))
        waiting = GaugeMetricFamily("openai_compat_model_waiting", "Requests that wait for a model.", labels=("model",))
        for model in models:
            active.add_metric((model.model_id,), model.active)
            waiting.add_metric((model.model_id,), model.waiting)
        yield active
        yield waiting


class _UsageCollector(Collector):
    """Reads whole numbers kept elsewhere, since a counter of floats would drift."""

    def __init__(self, used: Callable[[], Iterable[Used]]) -> None:
        self._used = used

    def collect(self) -> Iterator[CounterMetricFamily]:
        used = tuple(self._used())
        tokens = CounterMetricFamily(
            "openai_compat_tokens",
            "Tokens used. Those cached are among the prompt's, those estimated among the prompt's and the completion's.",
            labels=("model", "kind", "key"),
        )
        cost = CounterMetricFamily("openai_compat_cost", "Cost, in the currency of the prices.", labels=("model", "key"))
        for one in used:
            for kind, count in one.tokens.items():
                tokens.add_metric((one.model, kind, one.key), count)
            cost.add_metric((one.model, one.key), one.cost)
        yield tokens
        yield cost


class _CrowdCollector(Collector):
    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        connected, refused = self._crowd.connected, self._crowd.refused
        yield GaugeMetricFamily("openai_compat_connections", "Clients that are connected.", connected)
        yield CounterMetricFamily("openai_compat_turned_away", "Connections and requests beyond what is taken.", refused)
