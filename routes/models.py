"""The models that this server offers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath
from msgspec import UNSET

from openai_compat.grants import Grant
from openai_compat.http.openapi import documented
from openai_compat.translate.anthropic.models import info_of, page_of
from routes.queries import query_of
from schemas.anthropic_models import ModelPageQuery
from schemas.models import Model, ModelList

AnyRequest = Request[Any, Any, Any]
_ANTHROPIC = "anthropic-version"  # a header that Anthropic's clients send
_CODEX = "client_version"  # a parameter that it sends, and nobody else


@runtime_checkable
class Directory(Protocol):
    """What the routes ask; the gateway's catalog stands behind it."""

    def list(self, grant: Grant) -> list[Model]:
        """Every model that can be named and that ``grant`` may use, in the order of the configuration."""

    def get(self, id: str, grant: Grant) -> Model:
        """By id, alias or ``id:mode``. Raises ``ModelNotFound``, also for a model that ``grant`` may not use."""


class ModelController(Controller):
    """Both answers may read files, or ask another distribution's handler: never on the event loop. Anthropic's clients get them
    in Anthropic's shape.
    """

    path = "/v1/models"
    tags = ("Models",)

    @get(operation_class=documented(None, ModelList), sync_to_thread=True)
    def list(self, request: AnyRequest, directory: NamedDependency[Directory]) -> Response[Any]:
        """List the models that this key may use."""
        listed = tuple(directory.list(request.scope["state"]["grant"]))
        if _ANTHROPIC in request.headers:
            return Response(page_of(listed, query_of(request, ModelPageQuery)))
        return Response(ModelList(data=listed, models=() if _CODEX in request.query_params else UNSET))

    @get("/{model_id:path}", operation_class=documented(None, Model), sync_to_thread=True)
    def retrieve(self, request: AnyRequest, directory: NamedDependency[Directory], model_id: FromPath[Path]) -> Response[Any]:
        """Describe one model; its id may hold slashes and colons."""
        found = directory.get(model_id.as_posix().removeprefix("/"), request.scope["state"]["grant"])
        return Response(info_of(found) if _ANTHROPIC in request.headers else found)
