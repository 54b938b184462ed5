"""The models in memory, for operators."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from litestar import Controller, Request, get, post
from litestar.di import NamedDependency

from openai_compat.http.openapi import documented
from routes.queries import query_of
from schemas.residents import Resident, ResidentList, UnloadRequest


@runtime_checkable
class Residents(Protocol):
    """What the routes ask; the pool stands behind it."""

    def list(self) -> ResidentList: ...

    def unload(self, model_id: str) -> Resident:
        """Raises ``ModelNotFound``, and ``Conflict`` for a model that works or is being loaded."""


class ResidentController(Controller):
    path = "/admin/models"
    tags = ("Operators",)

    @get(operation_class=documented(None, ResidentList), sync_to_thread=False)
    def list(self, residents: NamedDependency[Residents]) -> ResidentList:
        """Every model of this machine: whether it is loaded, where, and what it works on."""
        return residents.list()

    @post("/unload", operation_class=documented(UnloadRequest, Resident), status_code=200, sync_to_thread=False)
    def unload(self, request: Request[Any, Any, Any], residents: NamedDependency[Residents]) -> Resident:
        """End the worker of a model that has nothing to do; the next request loads it again."""
        asked = query_of(request, UnloadRequest)
        return residents.unload(asked.model)
