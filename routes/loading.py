"""Models loaded and unloaded by clients, in the shape of llama.cpp's server."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from litestar import Controller, Request, get, post
from litestar.di import NamedDependency
from litestar.types import HTTPScope, Receive

from openai_compat.http.openapi import documented
from routes.models import Directory
from schemas.loading import Accepted, Condition, LoadableList, LoadableModel, LoadRequest
from schemas.models import Model

AnyRequest = Request[Any, Any, Any]
_BUSY = (409,)


@runtime_checkable
class LoadDesk(Protocol):
    """What the routes ask; the pool stands behind it."""

    async def load(self, scope: HTTPScope, receive: Receive) -> None: ...

    async def unload(self, scope: HTTPScope, receive: Receive) -> None: ...


class LoadingController(Controller):
    path = "/models"
    tags = ("Models",)

    @get(operation_class=documented(None, LoadableList), sync_to_thread=True)
    def list(self, request: AnyRequest, directory: NamedDependency[Directory]) -> LoadableList:
        """The models that this key may use, and whether they are in memory."""
        return LoadableList(data=tuple(_loadable(model) for model in directory.list(request.scope["state"]["grant"])))

    @post("/load", status_code=200, operation_class=documented(LoadRequest, Accepted))
    async def load(self, request: AnyRequest, loads: NamedDependency[LoadDesk]) -> Accepted:
        """Begin to load a model of this machine. A model is loaded by its first request too."""
        await loads.load(request.scope, request.receive)
        return Accepted()

    @post("/unload", status_code=200, operation_class=documented(LoadRequest, Accepted, refuses=_BUSY))
    async def unload(self, request: AnyRequest, loads: NamedDependency[LoadDesk]) -> Accepted:
        """End the process of a model that has nothing to do and is not pinned; its next request loads it again."""
        await loads.unload(request.scope, request.receive)
        return Accepted()


def _loadable(model: Model) -> LoadableModel:
    return LoadableModel(id=model.id, created=model.created, owned_by=model.owned_by, status=_condition(model.state))


def _condition(state: str) -> Condition:
    match state:
        case "ready":
            return Condition(value="loaded")
        case "loading":
            return Condition(value="loading")
        case "failed" | "unavailable":
            return Condition(value="unloaded", failed=True)
        case _:
            return Condition(value="unloaded")
