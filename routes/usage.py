"""What the asking key has used."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from litestar import Controller, Request, get
from litestar.di import NamedDependency

from openai_compat.grants import Grant
from openai_compat.http.openapi import documented
from routes.queries import query_of
from schemas.usage import UsageList, UsageQuery


@runtime_checkable
class UsageReader(Protocol):
    """What ``/v1/usage`` asks."""

    async def usage(self, grant: Grant, query: UsageQuery) -> UsageList:
        """What this key has used, and how it stands with its limits; everything where the server has no keys."""


class UsageController(Controller):
    path = "/v1/usage"
    tags = ("Usage",)

    @get(operation_class=documented(None, UsageList, query=UsageQuery))
    async def usage(self, request: Request[Any, Any, Any], usage_reader: NamedDependency[UsageReader]) -> UsageList:
        """What this key has used, by day and model, the newest day first, and what is left of its limits. Of other keys
        nothing is shown.
        """
        query = query_of(request, UsageQuery)
        return await usage_reader.usage(request.scope["state"]["grant"], query)
