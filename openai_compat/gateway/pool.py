"""The models in memory as the rest of the gateway uses them: ask for one, get a lease on its replica."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from openai_compat.config import Config
from openai_compat.errors import Conflict, ModelLoading, ModelNotFound, ModelUnavailable, ShuttingDown
from openai_compat.gateway.budget import Budget
from openai_compat.gateway.launcher import Launcher
from openai_compat.gateway.memory import measure_limits
from openai_compat.gateway.needs import Facts
from openai_compat.gateway.residents import Residents
from openai_compat.gateway.slot import Lease, ModelState, Phase, Slot, Waiter
from openai_compat.gateway.succession import prune, renew

_RETRY_AFTER = 5.0  # seconds that a client who waited long enough is told to wait before it asks again
_PATIENCE = 60.0  # seconds that a load waits for room though nobody waits for it any more
_BACKLOG = 256  # events kept for a subscriber who does not keep up


class Pool:
    """Replicas of the configured models.

    ``limits`` are bytes by account for all models together; they are measured on this machine when None.
    """

    def __init__(self, config: Config, catalog: Facts, launcher: Launcher, *, limits: dict[str, int] | None = None) -> None:
        self._config = config
        self._launcher = launcher
        self._limits = limits
        self._residents = Residents(config, catalog, launcher, Budget(limits or {}), self._announce)
        self._subscribers: set[asyncio.Queue[ModelState]] = set()
        self._closing = False

    async def start(self) -> None:
        """Find out what memory there is, and begin to load what is to be preloaded. Raises ``ValueError`` for a bad size."""
        if self._limits is None:
            self._residents.budget = Budget(await self.measure(self._config))
        await self._launcher.start()
        for slot in self._residents.slots.values():
            if slot.settings.preload:
                self._residents.want(slot)

    async def close(self) -> None:
        """Refuse what waits, let the workers finish what they answer within the grace, and end them."""
        self._closing = True
        await self._residents.close()
        for slot in self._residents.everyone:
            slot.refuse(_shutting_down())
        await self._launcher.close()

    async def measure(self, config: Config) -> dict[str, int]:
        """The limits under another configuration. Raises ``ValueError`` for a bad size."""
        return await measure_limits(config.memory) if self._limits is None else self._limits

    def renew(self, config: Config, catalog: Facts, limits: dict[str, int]) -> None:
        """Go over to another configuration, for which ``limits`` were measured. What it has not is there until ``prune``."""
        if self._closing:
            return
        self._config = config
        self._launcher.renew(config)
        self._residents.budget.limits = limits
        self._residents.adopt(config, catalog)
        renew(self._residents, config.models)

    @property
    def has_removed(self) -> bool:
        """Whether there are models that the configuration has not any more."""
        return not self._residents.slots.keys() <= self._config.models.keys()

    def prune(self) -> None:
        """Let the models go that the configuration has not: their workers end when they have answered."""
        if not self._closing:
            prune(self._residents, self._config.models)

    async def acquire(self, model_id: str, *, wait: float | None = None, request_id: str = "request") -> Lease:
        """A lease on a ready replica, loading the model if need be; ``wait`` in seconds defaults to its ``load_timeout``.

        Raises:
            ModelLoading: it is not ready yet; a later call joins the same load.
            ModelUnavailable: it cannot be loaded, or failed a moment ago.
            InsufficientMemory: it can never fit.
        """
        slot = self._residents.slots.get(model_id)
        if slot is None:
            raise ModelNotFound(model_id)
        if self._closing:
            raise _shutting_down()
        if slot.serves:
            return self._residents.grant(slot, request_id)
        _check_backoff(slot)
        waiter = Waiter(request_id, asyncio.get_running_loop().create_future())
        slot.waiters.append(waiter)
        self._residents.want(slot)
        return await self._wait(slot, waiter, slot.settings.load_timeout if wait is None else wait)

    def load(self, model_id: str) -> None:
        """Begin to load a model for whoever comes. Raises ``ModelNotFound``, ``ModelUnavailable`` and ``ShuttingDown``."""
        slot = self._residents.slots.get(model_id)
        if slot is None:
            raise ModelNotFound(model_id)
        if self._closing:
            raise _shutting_down()
        if not slot.serves:
            _check_backoff(slot)
            self._residents.want(slot)
            asyncio.get_running_loop().call_later(_PATIENCE, self._forget, model_id)

    def unload(self, model_id: str) -> ModelState:
        """End an idle model, pinned or not, and drop a load that nobody waits for.

        Raises ``ModelNotFound``, and ``Conflict`` for one that is at work or about to be loaded.
        """
        slot = self._residents.slots.get(model_id)
        if slot is None:
            raise ModelNotFound(model_id)
        if slot.leases or slot.waiters or slot.phase is Phase.LOADING or self._residents.prepares(slot):
            raise Conflict(f"The model '{model_id}' is at work. Ask again when it is not.", code="model_busy", retry=False)
        self._residents.forget(slot)
        if slot.phase is Phase.READY:
            self._residents.evict(slot)
        return self._state(slot)

    @property
    def preloaded(self) -> bool:
        """Whether every model that is to be preloaded has been in memory; one that left since comes back when it is asked."""
        return all(slot.was_ready for slot in self._residents.slots.values() if slot.settings.preload)

    def states(self) -> tuple[ModelState, ...]:
        """Of each model one, also of those that are on their way out."""
        last = {slot.model_id: slot for slot in self._residents.leaving} | self._residents.slots
        return tuple(self._state(slot) for slot in last.values())

    async def subscribe(self) -> AsyncGenerator[ModelState, None]:
        """Every model as it is now, then every change; the oldest are dropped for a reader who does not keep up."""
        queue: asyncio.Queue[ModelState] = asyncio.Queue(_BACKLOG)
        self._subscribers.add(queue)
        try:
            for state in self.states():
                yield state
            while True:
                yield await queue.get()
        finally:
            self._subscribers.discard(queue)

    async def _wait(self, slot: Slot, waiter: Waiter, seconds: float) -> Lease:
        try:
            async with asyncio.timeout(seconds):
                return await waiter.lease
        except TimeoutError:
            if waiter.granted:
                return waiter.lease.result()
            self._stop_waiting(slot, waiter, _PATIENCE)
            message = f"The model '{slot.model_id}' is still being loaded. Please try again in a moment."
            raise ModelLoading(message, retry_after=_RETRY_AFTER) from None
        except asyncio.CancelledError:
            if waiter.granted:
                waiter.lease.result().abandon()
            self._stop_waiting(slot, waiter, 0)
            raise

    def _stop_waiting(self, slot: Slot, waiter: Waiter, patience: float) -> None:
        slot = self._residents.slots.get(slot.model_id, slot)  # whoever waits goes over to the slot that takes its place
        if waiter in slot.waiters:
            slot.waiters.remove(waiter)
        asyncio.get_running_loop().call_later(patience, self._residents.forget, slot)

    def _forget(self, model_id: str) -> None:
        """Drop a load that found no room in time; the slot may be another one since."""
        if (slot := self._residents.slots.get(model_id)) is not None:
            self._residents.forget(slot)

    def _state(self, slot: Slot) -> ModelState:
        return slot.state(dict(self._residents.budget.held(slot.owner)))

    def _announce(self, slot: Slot) -> None:
        state = self._state(slot) if self._subscribers else None
        for queue in self._subscribers:
            if queue.full():
                queue.get_nowait()
            if state is not None:
                queue.put_nowait(state)


def _check_backoff(slot: Slot) -> None:
    left = slot.retry_at - asyncio.get_running_loop().time()
    if left > 0:
        reason = f" {slot.error}" if slot.error else ""
        raise ModelUnavailable(f"The model '{slot.model_id}' failed a moment ago.{reason}", retry_after=left)


def _shutting_down() -> ShuttingDown:
    return ShuttingDown("The server is shutting down.", retry_after=_RETRY_AFTER)
