"""Which model a request goes to, and everything about the two that can be refused without loading it."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple, Protocol

from handlers.types import Analysis
from openai_compat.errors import ModelUnavailable, NotFound, UnsupportedCapability, UnsupportedMode
from openai_compat.grants import ANYBODY, Grant

Verbs = tuple[str, ...]


class Target(Protocol):
    """What a model's name means."""

    @property
    def model_id(self) -> str: ...
    @property
    def mode(self) -> str | None: ...
    @property
    def public_name(self) -> str: ...


class Names(Protocol):
    """The part of the catalog that a request needs."""

    @property
    def ids(self) -> tuple[str, ...]: ...

    def resolve(self, name: str) -> Target: ...

    def analysis(self, model_id: str) -> Analysis: ...


class Offered(Protocol):
    """What is to be had elsewhere."""

    def able(self, verbs: Verbs, grant: Grant) -> str | None:
        """The name of the first model of an upstream that can do one of ``verbs``, if any is known to, and for ``grant``."""


class _Elsewhere(NamedTuple):
    """A model that is not of this machine. Its name says all."""

    model_id: str
    mode: str | None
    public_name: str


class Checks:
    """Finds a request's model. What the files of a model say is asked once and kept."""

    def __init__(self, catalog: Names, offers: Offered | None = None) -> None:
        self._catalog = catalog
        self._offers = offers
        self._analyses: dict[str, Analysis] = {}

    async def target(self, request: Any, verbs: Verbs, grant: Grant = ANYBODY) -> Target:
        """The model that ``request`` names, else the first that can do one of ``verbs`` and that ``grant`` may use: of this
        machine, if its files are there, or of an upstream that is known to have one that can. Raises ``NotFound`` naming
        ``model``.
        """
        name = request.model
        return self._catalog.resolve(name) if name is not None else await self._default(verbs, grant)

    async def admit(self, target: Target, request: Any, verbs: Verbs) -> None:
        """Raises ``UnsupportedCapability`` and ``UnsupportedMode``; ``ModelUnavailable`` where the files are not there."""
        analysis = self._analyses.get(target.model_id) or await self._analyse(target.model_id)
        if not set(verbs) & set(analysis.capabilities):
            message = f"The model '{target.public_name}' does not support this: it cannot {_words(verbs)}."
            raise UnsupportedCapability(message, param="model")
        mode = getattr(request, "mode", None) or target.mode
        if mode is not None and mode not in analysis.modes:
            raise UnsupportedMode(mode, analysis.modes)

    async def _default(self, verbs: Verbs, grant: Grant) -> Target:
        for model_id in filter(grant.may_use, self._catalog.ids):
            try:
                analysis = self._analyses.get(model_id) or await self._analyse(model_id)
            except ModelUnavailable:
                continue
            if set(verbs) & set(analysis.capabilities):
                return self._catalog.resolve(model_id)
        if self._offers is not None and (name := self._offers.able(verbs, grant)) is not None:
            return _Elsewhere(name, None, name)
        message = f"The request names no model, and no model of this server can {_words(verbs)}."
        raise NotFound(message, param="model", code="model_not_found")

    async def _analyse(self, model_id: str) -> Analysis:
        """The first look at a model reads files."""
        analysis = self._analyses[model_id] = await asyncio.to_thread(self._catalog.analysis, model_id)
        return analysis


def _words(verbs: Verbs) -> str:
    return verbs[0].replace("_", " ")


def verbs_of(planned: str | Verbs) -> Verbs:
    return (planned,) if isinstance(planned, str) else planned
