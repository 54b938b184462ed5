"""What the gateway's own routes ask: the models as they are listed, and whether the server is ready."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Literal

from openai_compat.config import Config
from openai_compat.errors import ModelNotFound
from openai_compat.gateway.catalog import Catalog, CatalogEntry
from openai_compat.gateway.pool import Pool
from openai_compat.gateway.slot import ModelState, Phase
from schemas.health import Health
from schemas.models import LoadProgress, Model, ModelEvent, ModelStatus


class GatewayDirectory:
    """``routes.models.Directory`` over the catalog's facts and the pool's states."""

    def __init__(self, config: Config, catalog: Catalog, pool: Pool) -> None:
        self._aliases = config.aliases
        self._catalog = catalog
        self._pool = pool

    def list(self) -> list[Model]:
        states = {state.model_id: state.state for state in self._pool.states()}
        models = [self._model(entry, entry.id, states) for entry in self._catalog.models()]
        entries = {alias: self._catalog.entry(self._catalog.resolve(alias).model_id) for alias in self._aliases}
        return models + [self._model(entry, alias, states) for alias, entry in entries.items()]

    def get(self, id: str) -> Model:
        """By id, alias or ``id:mode``; the answer carries the name that was asked for. Raises ``ModelNotFound``."""
        target = self._catalog.resolve(id)
        entry = self._catalog.entry(target.model_id)
        if target.mode is not None and entry.available and target.mode not in entry.modes:
            raise ModelNotFound(id, (id.removesuffix(f":{target.mode}"),))
        states = {state.model_id: state.state for state in self._pool.states()}
        return self._model(entry, target.public_name, states)

    def _model(self, entry: CatalogEntry, name: str, states: dict[str, str]) -> Model:
        return Model(
            id=name,
            created=entry.created,
            owned_by=entry.owned_by,
            capabilities=tuple(entry.capabilities),
            modes=entry.modes,
            context_length=entry.context_length,
            aliases=tuple(alias for alias in self._aliases if self._catalog.resolve(alias).model_id == entry.id),
            state=states.get(entry.id, "unloaded") if entry.available else "unavailable",
        )


class GatewayReadiness:
    """``routes.health.Readiness``: ready once every model that is to be preloaded has been in memory."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def health(self) -> Health:
        return Health(status="ok" if self._pool.preloaded else "loading")


class GatewayHappenings:
    """``routes.events.Happenings``: what the pool announces."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def events(self) -> AsyncIterator[ModelEvent]:
        async with aclosing(self._pool.subscribe()) as states:
            async for state in states:
                yield model_event(state)


def model_event(state: ModelState) -> ModelEvent:
    """The pool's view in llama.cpp's words."""
    progress = None
    if state.state == Phase.LOADING:
        value = round(min(1.0, state.done / state.total), 4) if state.total else None
        progress = LoadProgress(stages=(state.stage,), current=state.stage, value=value)
    return ModelEvent(model=state.model_id, data=ModelStatus(status=_STATUS[state.state], progress=progress, error=state.error))


_STATUS: dict[str, Literal["unloaded", "loading", "loaded", "unloading", "failed"]] = {
    Phase.UNLOADED: "unloaded",
    Phase.LOADING: "loading",
    Phase.READY: "loaded",
    Phase.UNLOADING: "unloading",
    Phase.FAILED: "failed",
}
