"""What a worker says while it lives, and what follows from it."""

from __future__ import annotations

import logging
from typing import Protocol

from openai_compat.gateway.budget import Budget
from openai_compat.gateway.slot import Phase, Slot
from openai_compat.protocol import Begun, Done, Failed, Heartbeat, Memory, Progress, Retiring, Status

logger = logging.getLogger(__name__)


class Hearer(Protocol):
    """Whoever keeps the slots."""

    budget: Budget

    def changed(self, slot: Slot) -> None: ...

    def replica_lost(self, slot: Slot) -> None: ...

    def rest(self, slot: Slot) -> None:
        """Count the time for which it has nothing to do."""


def hear(hearer: Hearer, slot: Slot, message: Status) -> None:
    match message:
        case Progress():
            slot.advance(message)
            hearer.changed(slot)
        case Failed():
            hearer.replica_lost(slot)
        case Retiring():
            slot.retiring = True
            hearer.rest(slot)
        case Begun():
            if lease := slot.leases.get(message.request_id):
                lease.begun = True
        case Done():
            if lease := slot.leases.get(message.request_id):
                lease.done(message)
        case Heartbeat(memory=memory):
            correct(hearer.budget, slot, memory)
            slot.heartbeat(message)
            _watch(hearer, slot, message.stalled)
        case _:
            pass


def _watch(hearer: Hearer, slot: Slot, stalled: float) -> None:
    """The process says that it lives, and its model gets nowhere: whoever waits for it would wait for ever."""
    if stalled > slot.settings.step_timeout and slot.phase is Phase.READY:
        logger.error("the worker of %s is ended: its model has made no step for %.0f s", slot.model_id, stalled)
        hearer.replica_lost(slot)


def correct(budget: Budget, slot: Slot, memory: Memory) -> None:
    budget.correct(slot.owner, slot.device, memory, slot.floor)
