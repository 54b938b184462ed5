"""How the targets of upstreams and routes stand, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from openai_compat.gateway.routing.standing import TargetState

_PREFIX = "openai_compat_target_"
_LABELS = ("upstream", "target")


class TargetCollector(Collector):
    """Read at the moment of scraping, so that a request pays for plain additions only.

    ``upstream`` and ``target`` are names of the configuration, or names that an upstream lists.
    """

    def __init__(self, states: Callable[[], Iterable[TargetState]]) -> None:
        self._states = states

    def collect(self) -> Iterator[Metric]:
        states = tuple(self._states())
        yield _gauge("open", "1 while a target is left alone, 0.5 while it is tried again.", states, _openness)
        yield _gauge("aside_seconds", "Seconds for which a target asked not to be asked.", states, lambda s: s.aside_for)
        yield _gauge("in_flight", "Requests that a target works on.", states, lambda s: s.in_flight)
        yield _counter("answers", "Answers that began.", states, lambda s: s.begun)
        yield _counter("retries", "Further tries at the same target for one request.", states, lambda s: s.retries)
        yield _counter("fallbacks", "Requests that went on to another target.", states, lambda s: s.fallbacks)
        yield _counter("hedges", "Requests that came beside another target.", states, lambda s: s.hedges)
        failures = CounterMetricFamily(_PREFIX + "failures", "Tries that came to nothing.", labels=(*_LABELS, "cause"))
        for state in states:
            for cause, count in sorted(state.failures.items()):
                failures.add_metric((state.upstream, state.target, cause), count)
        yield failures


def _openness(state: TargetState) -> float:
    return {"closed": 0.0, "half_open": 0.5, "open": 1.0}[state.state]


def _gauge(name: str, text: str, states: Iterable[TargetState], value: Callable[[TargetState], float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(_PREFIX + name, text, labels=_LABELS)
    for state in states:
        family.add_metric((state.upstream, state.target), value(state))
    return family


def _counter(name: str, text: str, states: Iterable[TargetState], value: Callable[[TargetState], float]) -> CounterMetricFamily:
    family = CounterMetricFamily(_PREFIX + name, text, labels=_LABELS)
    for state in states:
        family.add_metric((state.upstream, state.target), value(state))
    return family
