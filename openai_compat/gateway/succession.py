"""A new configuration over the models in memory: which workers stay, which are replaced, which go.

A worker that must go first finishes what it was asked. Where there is room its successor is loaded beside it; else the
successor waits until it is gone, and requests wait for that as they do for any load.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from msgspec.structs import replace

from openai_compat.config import Model
from openai_compat.errors import ModelNotFound
from openai_compat.gateway.budget import Budget
from openai_compat.gateway.slot import Phase, Slot

# What is the gateway's business alone: a worker that runs need not know.
LIGHT = ("price", "preload", "pin", "idle_timeout", "load_timeout", "max_load_time", "step_timeout")


class Household(Protocol):
    """The part of ``Residents`` that is needed here."""

    budget: Budget
    slots: dict[str, Slot]
    leaving: list[Slot]

    def want(self, slot: Slot) -> None: ...
    def withdraw(self, slot: Slot) -> None:
        """Begin no load of it any more."""

    def rest(self, slot: Slot) -> None: ...
    def plan(self) -> None: ...


def keeps_worker(old: Model, new: Model) -> bool:
    """Whether a worker that was started for ``old`` is as good for ``new``."""
    return replace(old, **{name: getattr(new, name) for name in LIGHT}) == new


def renew(household: Household, models: Mapping[str, Model]) -> None:
    """New models have a place, changed ones a new one. Those that are not there any more stay until ``prune``."""
    before = household.slots
    household.slots = {model_id: _place(household, model_id, model) for model_id, model in models.items()}
    household.slots |= {model_id: slot for model_id, slot in before.items() if model_id not in models}
    for model_id in models:
        slot, old = household.slots[model_id], before.get(model_id)
        was_there = old is not None and old is not slot and old.worker is not None
        if slot.phase in (Phase.UNLOADED, Phase.FAILED) and (slot.settings.preload or slot.waiters or was_there):
            household.want(slot)
    household.plan()


def prune(household: Household, models: Mapping[str, Model]) -> None:
    """Let those go that are not among ``models``."""
    for model_id in household.slots.keys() - models.keys():
        slot = household.slots.pop(model_id)
        _retire(household, slot)
        if slot.phase is not Phase.LOADING:
            slot.refuse(ModelNotFound(model_id))
    household.plan()


def part(household: Household, slot: Slot) -> None:
    """A slot that was leaving has nothing of its worker any more."""
    slot.refuse(ModelNotFound(slot.model_id))
    if slot in household.leaving:
        household.leaving.remove(slot)
    household.budget.forget(slot.owner)


def _place(household: Household, model_id: str, model: Model) -> Slot:
    old = household.slots.get(model_id)
    if old is None:
        return _new(model_id, model)
    if not keeps_worker(old.settings, model):
        new = _new(model_id, model)
        new.waiters, old.waiters = old.waiters, []
        _retire(household, old)
        return new
    old.was_ready = old.was_ready or not old.settings.preload
    old.settings = model
    old.forgive()
    household.rest(old)
    return old


def _new(model_id: str, model: Model) -> Slot:
    """A server that was ready is not unready because it was given one more model to preload."""
    slot = Slot(model_id, model)
    slot.was_ready = True
    return slot


def _retire(household: Household, slot: Slot) -> None:
    """From now on its memory is accounted for under a name of its own: another worker of the model may be beside it."""
    household.withdraw(slot)
    slot.leaving = True
    slot.stop_timers()
    taken = {other.owner for other in household.leaving}
    owner = next(name for number in range(1, len(taken) + 2) if (name := f"{slot.model_id} ({number})") not in taken)
    household.budget.rename(slot.owner, owner)
    slot.owner = owner
    if slot.phase in (Phase.UNLOADED, Phase.FAILED):
        household.budget.forget(owner)
        return
    household.leaving.append(slot)
    if slot.phase is Phase.LOADING and not slot.waiters and slot.worker is not None:
        slot.worker.kill()
    household.rest(slot)
