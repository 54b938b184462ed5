"""Clients who load and unload models of this machine: held to their keys' models, and kept from what others need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from litestar.types import HTTPScope, Receive

from openai_compat.config import Config
from openai_compat.errors import Conflict, InvalidRequest
from openai_compat.gateway.body import read_json_body
from openai_compat.gateway.offers import Offers
from openai_compat.gateway.order import LocalTarget
from openai_compat.gateway.pool import Pool
from schemas.decode import decode
from schemas.loading import LoadRequest

_LONGEST_BODY = 1 << 16


class InForce(Protocol):
    """The part of an edition that is needed here."""

    @property
    def config(self) -> Config: ...

    @property
    def offers(self) -> Offers: ...


class Loads:
    """``routes.loading.LoadDesk``.

    Args:
        now: gives the edition in force.
    """

    def __init__(self, now: Callable[[], InForce], pool: Pool) -> None:
        self._now = now
        self._pool = pool

    async def load(self, scope: HTTPScope, receive: Receive) -> None:
        """Raises ``ModelNotFound``, ``InvalidRequest`` for a model that is elsewhere, and ``ModelUnavailable`` for one that
        failed a moment ago.
        """
        self._pool.load(await self._named(scope, receive))

    async def unload(self, scope: HTTPScope, receive: Receive) -> None:
        """Raises ``ModelNotFound``, ``InvalidRequest``, and ``Conflict`` for a model that works or is pinned."""
        model_id = await self._named(scope, receive)
        settings = self._now().config.models.get(model_id)
        if settings is not None and settings.pin:
            raise Conflict(f"The model '{model_id}' is pinned.", code="model_pinned", retry=False)
        self._pool.unload(model_id)

    async def _named(self, scope: HTTPScope, receive: Receive) -> str:
        origins = self._now().config.server.cors_origins
        body = await read_json_body(scope["headers"], receive, _LONGEST_BODY, origins=origins)
        name = decode(body, LoadRequest).model
        target = self._now().offers.find(name, scope["state"]["grant"]).only
        if not isinstance(target, LocalTarget):
            raise InvalidRequest(f"'{name}' is no model of this machine: there is nothing to load.", param="model")
        return target.model_id
