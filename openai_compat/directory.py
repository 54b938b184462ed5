"""What the gateway's own routes ask: the models as they are listed, and whether the server is ready."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Literal

from msgspec.structs import replace

from openai_compat.config import Config
from openai_compat.errors import APIError, ModelNotFound
from openai_compat.gateway.catalog import Catalog
from openai_compat.gateway.listing import Listed
from openai_compat.gateway.offers import Offers
from openai_compat.gateway.order import Destination, LocalTarget, Target, UpstreamTarget
from openai_compat.gateway.pool import Pool
from openai_compat.gateway.slot import ModelState, Phase
from openai_compat.grants import ANYBODY, Grant
from schemas.health import Health
from schemas.models import LoadProgress, Model, ModelEvent, ModelStatus
from schemas.residents import Resident, ResidentList

UNAVAILABLE = "unavailable"


class GatewayDirectory:
    """``routes.models.Directory``: every name that ``Offers`` knows, with the catalog's facts and the pool's states."""

    def __init__(self, config: Config, catalog: Catalog, pool: Pool, offers: Offers) -> None:
        self._aliases = config.aliases
        self._catalog = catalog
        self._pool = pool
        self._offers = offers

    def list(self, grant: Grant = ANYBODY) -> list[Model]:
        look = self._look(grant)
        return [look.model(name) for name in self._offers.names() if grant.may_use(name)]

    def get(self, id: str, grant: Grant = ANYBODY) -> Model:
        """By any name that a request may use; the answer carries it. Raises ``ModelNotFound``, and ``Unavailable`` where an
        upstream has not said yet whether it has the model.
        """
        destination = self._offers.find(id, grant)
        target = destination.only
        if isinstance(target, LocalTarget) and target.mode is not None:
            entry = self._catalog.entry(target.model_id)
            if entry.available and target.mode not in entry.modes:
                raise ModelNotFound(id, tuple(filter(grant.may_use, (id.removesuffix(f":{target.mode}"),))))
        return self._look(grant).describe(destination)

    def _look(self, grant: Grant) -> _Look:
        states = {state.model_id: state.state for state in self._pool.states()}
        return _Look(self._catalog, self._offers, states, filter(grant.may_use, self._aliases))


class _Look:
    """The models at one moment."""

    def __init__(self, catalog: Catalog, offers: Offers, states: Mapping[str, str], aliases: Iterable[str]) -> None:
        self._catalog = catalog
        self._offers = offers
        self._states = states
        self._aliases: dict[tuple[str, str], list[str]] = {}
        for alias in aliases:
            with suppress(APIError):
                self._aliases.setdefault(_identity(offers.find(alias)), []).append(alias)

    def model(self, name: str) -> Model:
        """A name in the list; what nothing is known of yet is there, and unavailable."""
        try:
            return self.describe(self._offers.find(name))
        except APIError:
            return Model(id=name, created=0, state=UNAVAILABLE)

    def describe(self, destination: Destination) -> Model:
        found = [self._target(choice.target) for choice in destination.choices]
        found += [self._target(destination.larger)] if destination.larger is not None else []
        one = found[0] if destination.only is not None else _together(found)
        return replace(one, id=destination.public_name, aliases=tuple(self._aliases.get(_identity(destination), ())))

    def _target(self, target: Target) -> Model:
        return self._local(target) if isinstance(target, LocalTarget) else self._remote(target)

    def _local(self, target: LocalTarget) -> Model:
        entry = self._catalog.entry(target.model_id)
        return Model(
            id=entry.id,
            created=entry.created,
            owned_by=entry.owned_by,
            capabilities=tuple(entry.capabilities),
            modes=entry.modes,
            context_length=entry.context_length,
            state=self._states.get(entry.id, Phase.UNLOADED.value) if entry.available else UNAVAILABLE,
        )

    def _remote(self, target: UpstreamTarget) -> Model:
        """What the configuration says goes before what the upstream says of itself."""
        listed = self._offers.listed(target) or Listed()
        return Model(
            id=target.label,
            created=listed.created,
            owned_by=target.upstream,
            capabilities=self._offers.capabilities(target),
            modes=listed.modes,
            context_length=target.model.context_length or listed.context_length,
            state=Phase.READY.value,
        )


def _together(models: Sequence[Model]) -> Model:
    """A route: what all of its targets can do, and the longest context, since a longer prompt finds its way there."""
    first, *others = models
    states = {model.state for model in models}
    return Model(
        id=first.id,
        created=max(model.created for model in models),
        capabilities=tuple(verb for verb in first.capabilities if all(verb in other.capabilities for other in others)),
        context_length=max((model.context_length or 0 for model in models), default=0) or None,
        state=next((state for state in (Phase.READY, Phase.LOADING, Phase.UNLOADED) if state in states), UNAVAILABLE),
    )


def _identity(destination: Destination) -> tuple[str, str]:
    """The same for two names of one thing."""
    target = destination.only
    if target is None:
        return "", destination.route
    return ("", target.model_id) if isinstance(target, LocalTarget) else (target.upstream, target.remote_name)


class GatewayReadiness:
    """``routes.health.Readiness``: ready once every model that is to be preloaded has been in memory, until ``draining``."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.draining = False

    def health(self) -> Health:
        if self.draining:
            return Health(status="draining")
        return Health(status="ok" if self._pool.preloaded else "loading")


class GatewayHappenings:
    """``routes.events.Happenings``: what the pool announces."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def events(self) -> AsyncIterator[ModelEvent]:
        async with aclosing(self._pool.subscribe()) as states:
            async for state in states:
                yield model_event(state)


class GatewayResidents:
    """``routes.residents.Residents``."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def list(self) -> ResidentList:
        return ResidentList(data=tuple(_resident(state) for state in self._pool.states()))

    def unload(self, model_id: str) -> Resident:
        return _resident(self._pool.unload(model_id))


def _resident(state: ModelState) -> Resident:
    return Resident(
        id=state.model_id,
        state=state.state,
        stage=state.stage,
        memory=state.memory,
        device=state.device,
        active=state.active,
        waiting=state.waiting,
        error=state.error,
    )


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
