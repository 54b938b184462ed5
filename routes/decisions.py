"""Decisions: questions about an input, answered with probabilities."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from litestar import Controller, Request, Response, post
from litestar.di import NamedDependency
from litestar.types import HTTPScope, Receive

from openai_compat.http.disconnect import attended
from openai_compat.http.openapi import documented
from schemas.decisions import CreateDecisionRequest, Decision


@runtime_checkable
class Desk(Protocol):
    """Asks a model in the name of whoever made the request of ``scope``."""

    async def read(self, scope: HTTPScope, receive: Receive) -> CreateDecisionRequest: ...

    async def decide(self, request: CreateDecisionRequest, scope: HTTPScope) -> Decision: ...


class DecisionController(Controller):
    path = "/v1/decisions"
    tags = ("Decisions",)

    @post(status_code=200, operation_class=documented(CreateDecisionRequest, Decision))
    async def create(self, request: Request[Any, Any, Any], decisions: NamedDependency[Desk]) -> Response[Decision]:
        """Answer questions about an input, each with the probabilities of its options."""
        asked = await decisions.read(request.scope, request.receive)
        return Response(await attended(request, decisions.decide(asked, request.scope)))
