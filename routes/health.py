"""Whether the server lives, and whether it can answer."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from litestar import Controller, Response, get
from litestar.di import NamedDependency

from openai_compat.http.openapi import documented
from schemas.health import Health


@runtime_checkable
class Readiness(Protocol):
    """What ``/health/ready`` asks."""

    def health(self) -> Health:
        """``status`` is ``ok`` once requests can be answered."""


class HealthController(Controller):
    path = "/health"
    tags = ("Health",)

    @get("/live", operation_class=documented(None, Health), sync_to_thread=False)
    def live(self) -> Health:
        """The process answers."""
        return Health()

    @get("/ready", operation_class=documented(None, Health, also=(503,)), sync_to_thread=False)
    def ready(self, readiness: NamedDependency[Readiness]) -> Response[Health]:
        """Requests can be answered; 503 while they cannot."""
        health = readiness.health()
        return Response(health, status_code=200 if health.status == "ok" else 503)
