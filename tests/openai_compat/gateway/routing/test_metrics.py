"""What Prometheus reads of the targets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from openai_compat.errors import APIError
from openai_compat.gateway.routing.metrics import TargetCollector

Make = Callable[..., Any]


@pytest.fixture
def read(bench: Make) -> Callable[..., Any]:
    """A value of the bench's router."""

    def value(bench: Any, name: str, target: str, **labels: str) -> float | None:
        registry = CollectorRegistry()
        registry.register(TargetCollector(bench.router.states))
        upstream = "" if target.startswith("local") else target
        return registry.get_sample_value(f"openai_compat_target_{name}", {"upstream": upstream, "target": target, **labels})

    return value


def test_an_open_breaker_a_fallback_and_its_cause_are_counted(bench: Make, failure: Make, read: Make) -> None:
    route = bench("a local", upstream={"breaker": {"failures": 1, "pause": 10}})
    route.script(a=failure("not_begun"))
    assert asyncio.run(route.ask()) == "local"
    assert read(route, "open", "a") == 1
    assert read(route, "fallbacks_total", "a") == 1
    assert read(route, "failures_total", "a", cause="not_begun") == 1
    assert read(route, "answers_total", "local") == 1
    assert read(route, "open", "local") == 0


def test_retries_hedges_and_what_is_set_aside_are_counted(bench: Make, failure: Make, read: Make) -> None:
    one = bench(upstream={"retries": 2})
    one.script(a=failure("server_error"))
    with pytest.raises(APIError):
        asyncio.run(one.ask("a"))
    one.script(b=failure("rate_limited", 40.0))
    with pytest.raises(APIError):
        asyncio.run(one.ask("b"))
    assert read(one, "retries_total", "a") == 2
    assert read(one, "aside_seconds", "b") == 40
    assert read(one, "hedges_total", "b") == 0


def test_requests_in_flight_are_shown_while_they_are(bench: Make, read: Make) -> None:
    one = bench()

    async def beside() -> list[float | None]:
        async with one.router.open(one.order(), one.destination("a")):
            during = read(one, "in_flight", "a")
        return [during, read(one, "in_flight", "a")]

    assert asyncio.run(beside()) == [1, 0]


def test_a_target_that_nobody_asked_has_no_series(bench: Make, read: Make) -> None:
    assert read(bench(), "open", "a") is None
