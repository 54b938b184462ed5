"""The models that this server offers."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.params import FromPath

from openai_compat.http.openapi import documented
from schemas.models import Model, ModelList


@runtime_checkable
class Directory(Protocol):
    """What the routes ask; the gateway's catalog stands behind it."""

    def list(self) -> list[Model]:
        """Every model that can be named, in the order of the configuration."""

    def get(self, id: str) -> Model:
        """By id, alias or ``id:mode``. Raises ``ModelNotFound``."""


class ModelController(Controller):
    """Both answers may read files, or ask another distribution's handler: never on the event loop."""

    path = "/v1/models"
    tags = ("Models",)

    @get(operation_class=documented(None, ModelList), sync_to_thread=True)
    def list(self, directory: NamedDependency[Directory]) -> ModelList:
        """List the models."""
        return ModelList(data=tuple(directory.list()))

    @get("/{model_id:path}", operation_class=documented(None, Model), sync_to_thread=True)
    def retrieve(self, directory: NamedDependency[Directory], model_id: FromPath[Path]) -> Model:
        """Describe one model; its id may hold slashes and colons."""
        return directory.get(model_id.as_posix().removeprefix("/"))
