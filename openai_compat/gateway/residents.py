"""Which models are in memory: loads them, ends them when others need the room, and never while they work.

Every change (a lease ended, a process gone, a load asked for) leads to ``plan``, which looks at the wanted loads in the order
of asking and does what can be done now. Nothing else decides about memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

import msgspec

from openai_compat.config import Config
from openai_compat.errors import APIError, InsufficientMemory, ModelUnavailable
from openai_compat.gateway.budget import Budget, Placement
from openai_compat.gateway.hearing import correct, hear
from openai_compat.gateway.launcher import Launcher, Worker
from openai_compat.gateway.needs import Facts, read_needs
from openai_compat.gateway.plan import choose, victims
from openai_compat.gateway.slot import Lease, Phase, Slot
from openai_compat.gateway.succession import part
from openai_compat.gateway.tasks import Tasks
from openai_compat.protocol import Progress, Ready
from openai_compat.sizes import format_size

logger = logging.getLogger(__name__)
_SUSPICION = 0.25  # seconds within which the status connection of a dying worker ends
_KILL_MARGIN = 15.0  # seconds a worker gets beyond its own grace before it is killed


class Residents:
    """The models' slots and the memory that they share. ``changed`` is called after every change of a slot."""

    def __init__(
        self, config: Config, catalog: Facts, launcher: Launcher, budget: Budget, changed: Callable[[Slot], None]
    ) -> None:
        self._config = config
        self._catalog = catalog
        self._launcher = launcher
        self.budget = budget
        self.changed = changed
        self.slots = {model_id: Slot(model_id, model) for model_id, model in config.models.items()}
        self.leaving: list[Slot] = []  # what an earlier configuration had, until it is gone
        self._wanted: dict[str, Slot] = {}  # loads that wait for room, in the order of asking
        self._preparing: set[Slot] = set()
        self._tasks = Tasks()
        self._closing = False

    async def close(self) -> None:
        """Begin nothing more. The workers are the launcher's to end."""
        self._closing = True
        for slot in self.everyone:
            slot.stop_timers()
        await self._tasks.cancel()

    @property
    def everyone(self) -> tuple[Slot, ...]:
        """All that may hold memory."""
        return (*self.slots.values(), *self.leaving)

    def adopt(self, config: Config, catalog: Facts) -> None:
        """Go over to another configuration; see ``succession``."""
        self._config, self._catalog = config, catalog

    def withdraw(self, slot: Slot) -> None:
        if self._wanted.get(slot.model_id) is slot:
            del self._wanted[slot.model_id]

    def prepares(self, slot: Slot) -> bool:
        return slot in self._preparing

    def forget(self, slot: Slot) -> None:
        """Drop a load that has not begun and that nobody waits for any more."""
        if not slot.waiters and not slot.settings.preload and slot.model_id in self._wanted:
            del self._wanted[slot.model_id]
            self.plan()

    # ------------------------------------------------------------ leases

    def grant(self, slot: Slot, request_id: str) -> Lease:
        if slot.worker is None:
            raise ModelUnavailable(f"The model '{slot.model_id}' is not loaded.", retry_after=1)
        slot.last_used = asyncio.get_running_loop().time()
        return slot.grant(slot.worker, request_id, self)

    def _grant_waiting(self, slot: Slot) -> None:
        self.withdraw(slot)
        waiters, slot.waiters = slot.waiters, []
        for waiter in waiters:
            if not waiter.lease.done():
                waiter.lease.set_result(self.grant(slot, waiter.request_id))

    def lease_ended(self, lease: Lease, served: bool) -> None:
        slot = lease.slot
        slot.leases.pop(lease.request_id, None)
        slot.last_used = asyncio.get_running_loop().time()
        if served:
            slot.failures = 0
        self.rest(slot)
        if self._wanted:
            self.plan()

    def rest(self, slot: Slot) -> None:
        if not slot.leases and slot.phase is Phase.READY:
            slot.start_timer(self._expired)

    def replica_lost(self, slot: Slot) -> None:
        """It cannot be reached, so it is as good as dead; make that true before another one is started."""
        if slot.phase is Phase.READY and slot.worker is not None and not self._closing:
            self._enter(slot, Phase.UNLOADING)
            slot.worker.kill()

    def replica_suspected(self, slot: Slot) -> None:
        """Let new requests wait a moment: if it is dying, its status connection ends in that time and they go to the next."""
        if slot.serves and not self._closing:
            slot.suspected = True
            asyncio.get_running_loop().call_later(_SUSPICION, self._acquit, slot, slot.worker)

    def _acquit(self, slot: Slot, worker: Worker | None) -> None:
        if slot.suspected and slot.worker is worker:
            slot.suspected = False
            self.plan()

    def _expired(self, slot: Slot) -> None:
        if slot.evictable and not slot.leases:
            logger.info("%s is ended: %s", slot.model_id, slot.over)
            self.evict(slot)

    # ------------------------------------------------------------ who gets the room

    def want(self, slot: Slot) -> None:
        """Queue a load, unless it is queued or under way."""
        under_way = slot.phase is Phase.LOADING or slot in self._preparing or slot.model_id in self._wanted
        if not under_way and not self._closing:
            self._preparing.add(slot)
            self._tasks.spawn(self._prepare(slot))

    async def _prepare(self, slot: Slot) -> None:
        try:
            slot.spec, slot.estimate, slot.floor = await asyncio.to_thread(read_needs, self._catalog, slot)
        except Exception as error:
            self._reject(slot, slot.reason(error))
        else:
            if not slot.leaving:
                self._wanted[slot.model_id] = slot
        finally:
            self._preparing.discard(slot)
        self.plan()

    def plan(self) -> None:
        if self._closing:
            return
        claimed: set[str] = set()  # accounts that somebody earlier in the queue waits for
        asked_to_end: set[str] = set()
        for slot in tuple(self._wanted.values()):
            if slot.phase in (Phase.READY, Phase.UNLOADING):
                continue
            placement = self._choose(slot)
            if placement is None or claimed & placement.amounts.keys():
                claimed |= placement.amounts.keys() if placement else set()
            elif self.budget.fits(placement):
                self._begin(slot, placement)
            else:
                claimed |= placement.amounts.keys()
                asked_to_end |= self._make_room(placement)
        self._apply(asked_to_end)

    def _choose(self, slot: Slot) -> Placement | None:
        """A device for the model; one that fits nowhere is rejected."""
        try:
            return choose(self.budget, slot, self.everyone)
        except InsufficientMemory as error:
            self._reject(slot, error)
            return None

    def _make_room(self, placement: Placement) -> set[str]:
        """End idle models, or name those that must take no new requests until they are idle."""
        chosen = victims(self.budget, placement, self.everyone)
        if any(slot.leases for slot in chosen):
            return {slot.model_id for slot in chosen if slot.leases or slot.draining}
        for slot in chosen:
            self.evict(slot)
        return set()

    def _apply(self, asked_to_end: set[str]) -> None:
        """From now on new requests for these models queue behind the load that needs their room; the others serve again."""
        for slot in self.slots.values():
            slot.draining = slot.model_id in asked_to_end
            if slot.serves and slot.waiters:
                self._grant_waiting(slot)

    # ------------------------------------------------------------ the life of a worker

    def _begin(self, slot: Slot, placement: Placement) -> None:
        del self._wanted[slot.model_id]
        self.budget.reserve(slot.owner, placement.amounts)
        slot.device = placement.device
        slot.progress = Progress("starting")
        slot.error = None
        self._enter(slot, Phase.LOADING)
        self._tasks.spawn(self._load(slot))

    async def _load(self, slot: Slot) -> None:
        try:
            ready = await self._launch(slot)
        except Exception as error:  # whatever it was, the slot must not be left loading
            await self._load_failed(slot, slot.reason(error))
        else:
            self._loaded(slot, ready)

    async def _launch(self, slot: Slot) -> Ready:
        if slot.spec is None:
            raise ModelUnavailable(f"The model '{slot.model_id}' is not known.")
        if slot.leaving and not slot.waiters:
            raise ModelUnavailable(f"The model '{slot.model_id}' is not wanted any more.")
        spec = msgspec.structs.replace(slot.spec, device=slot.device)
        async with asyncio.timeout(slot.settings.max_load_time):
            slot.worker = await self._launcher.launch(slot.model_id, spec, slot.settings.environment, partial(hear, self, slot))
            return await slot.worker.ready()

    def _loaded(self, slot: Slot, ready: Ready) -> None:
        if slot.worker is None:
            return
        correct(self.budget, slot, ready.memory)
        slot.progress = Progress("")
        slot.stopping = False
        slot.was_ready = True
        self._enter(slot, Phase.READY)
        self._tasks.spawn(self._outlive(slot))
        self._grant_waiting(slot)
        self.rest(slot)
        self.plan()

    async def _load_failed(self, slot: Slot, error: APIError) -> None:
        logger.warning("%s was not loaded: %s", slot.model_id, error.message)
        if slot.worker is not None:
            await slot.worker.stop(0)
        self._vacate(slot)
        slot.failures += 1
        pause = slot.back_off(slot.failures, self._config.workers)
        slot.error = error.message
        self._enter(slot, Phase.FAILED)
        if error.retry_after is None:
            error.retry_after = pause
        slot.refuse(error)
        if slot.leaving:
            part(self, slot)
        self._restart(slot)
        self.plan()

    async def _outlive(self, slot: Slot) -> None:
        """Wait for the worker's end, asked for or not, and clear up."""
        if slot.worker is None:
            return
        await slot.worker.gone.wait()
        crashed, missed = not slot.stopping, slot.retiring
        if crashed:
            self._crashed(slot)
        for lease in tuple(slot.leases.values()):
            lease.died()
        self._vacate(slot)
        self._enter(slot, Phase.UNLOADED)
        if slot.leaving:
            part(self, slot)
        elif slot.waiters:
            self.want(slot)
        elif crashed or missed:
            self._restart(slot)
        self.plan()

    def _crashed(self, slot: Slot) -> None:
        """One crash after serving is followed by a reload at once; a second without an answer in between is held back."""
        logger.error("the worker of %s died", slot.model_id)
        slot.error = "Its process died."
        slot.failures += 1
        if slot.failures > 1:
            pause = slot.back_off(slot.failures - 1, self._config.workers)
            slot.refuse(ModelUnavailable(f"The model '{slot.model_id}' keeps failing.", retry_after=pause))

    def evict(self, slot: Slot) -> None:
        if slot.worker is not None:
            slot.stopping = True
            slot.stop_timer()
            self._enter(slot, Phase.UNLOADING)
            self._tasks.spawn(slot.worker.stop(self._config.server.shutdown_grace + _KILL_MARGIN))

    def _vacate(self, slot: Slot) -> None:
        slot.worker = None
        slot.draining = slot.suspected = slot.retiring = False
        slot.stop_timer()
        slot.progress = Progress("")
        self.budget.release(slot.owner)

    def _reject(self, slot: Slot, error: APIError) -> None:
        """Nothing was tried, so nothing is held back: the next request is judged anew."""
        self.withdraw(slot)
        logger.warning("%s is not loaded: %s", slot.model_id, error.message)
        slot.error = error.message
        if slot.phase is Phase.UNLOADED:
            self._enter(slot, Phase.FAILED)
        slot.refuse(error)

    def _restart(self, slot: Slot) -> None:
        """A model to preload does not wait for a request: it comes back by itself, once it may be tried again."""
        if slot.settings.preload and not slot.leaving and not self._closing:
            loop = asyncio.get_running_loop()
            slot.retry = loop.call_at(max(slot.retry_at, loop.time()), self._try_again, slot)

    def _try_again(self, slot: Slot) -> None:
        if slot.phase in (Phase.UNLOADED, Phase.FAILED):
            self.want(slot)

    def _enter(self, slot: Slot, phase: Phase) -> None:
        slot.phase = phase
        held = ", ".join(f"{format_size(size)} on {name}" for name, size in self.budget.held(slot.owner).items())
        logger.info("%s is %s%s", slot.model_id, phase.value, f" ({held})" if held else "")
        self.changed(slot)
