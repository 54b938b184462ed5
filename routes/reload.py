"""Reading the configuration again, for operators."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from litestar import Controller, post
from litestar.di import NamedDependency

from openai_compat.http.openapi import documented
from schemas.reload import Reloaded


@runtime_checkable
class Reloading(Protocol):
    """What the route asks."""

    async def reload(self) -> Reloaded:
        """Raises ``InvalidRequest`` where the configuration is refused; the old one is in force then."""


class ReloadController(Controller):
    path = "/admin/reload"
    tags = ("Operators",)

    @post(operation_class=documented(None, Reloaded), status_code=200)
    async def reload(self, reloading: NamedDependency[Reloading]) -> Reloaded:
        """Read the configuration again, and put it in force. A bad one is refused as a whole."""
        return await reloading.reload()
