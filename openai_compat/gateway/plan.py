"""Where a model goes, and which others must go so that it fits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from openai_compat.gateway.budget import Budget, Placement
from openai_compat.gateway.slot import Phase, Slot


def choose(budget: Budget, slot: Slot, slots: Iterable[Slot]) -> Placement:
    """A device for the model, in the order of its setting, with room now if there is one.

    Raises ``InsufficientMemory`` for a model that would fit nowhere though all others but the pinned ones were gone.
    """
    fixed = unmovable(budget, slots)
    tried: list[Placement] = []
    for group in budget.devices_for(slot.settings.device):
        placements = budget.placements(slot.owner, group, slot.estimate, slot.floor)
        tried += placements
        if allowed := [p for p in placements if budget.allowed(p, fixed)]:
            return next((p for p in allowed if budget.fits(p)), allowed[0])
    raise budget.refusal(slot.owner, tried, fixed)


def unmovable(budget: Budget, slots: Iterable[Slot]) -> dict[str, int]:
    """Bytes by account that pinned models hold."""
    totals: Counter[str] = Counter()
    for slot in slots:
        if slot.settings.pin and not slot.leaving:
            totals.update(budget.held(slot.owner))
    return dict(totals)


def shortage(budget: Budget, placement: Placement, slots: Iterable[Slot]) -> dict[str, int]:
    """Bytes missing by account, once those that are ending already are gone."""
    ending = [budget.held(slot.owner) for slot in slots if slot.phase is Phase.UNLOADING or slot.leaving]
    return {
        account: size - budget.free(account) - sum(held.get(account, 0) for held in ending)
        for account, size in placement.amounts.items()
    }


def victims(budget: Budget, placement: Placement, slots: Sequence[Slot]) -> list[Slot]:
    """The models to end, the longest unused first: those already asked to end, then idle ones, then busy ones.

    Fewer than enough are returned when the rest is pinned or still loading.
    """
    missing = shortage(budget, placement, slots)
    order = sorted(
        (slot for slot in slots if slot.evictable), key=lambda slot: (not slot.draining, bool(slot.leases), slot.last_used)
    )
    chosen: list[Slot] = []
    for slot in order:
        if _helps(budget, slot, missing):
            chosen.append(slot)
            missing = _less(budget, slot, missing, 1)
    return _spare(budget, chosen, missing)


def _helps(budget: Budget, slot: Slot, missing: dict[str, int]) -> bool:
    held = budget.held(slot.owner)
    return any(size > 0 and held.get(account, 0) > 0 for account, size in missing.items())


def _less(budget: Budget, slot: Slot, missing: dict[str, int], sign: int) -> dict[str, int]:
    held = budget.held(slot.owner)
    return {account: size - sign * held.get(account, 0) for account, size in missing.items()}


def _spare(budget: Budget, chosen: list[Slot], missing: dict[str, int]) -> list[Slot]:
    """Let live whom a later, larger choice has made needless; the most recently used is spared first."""
    kept = list(chosen)
    for slot in reversed(chosen):
        without = _less(budget, slot, missing, -1)
        if all(size <= 0 for size in without.values()):
            kept.remove(slot)
            missing = without
    return kept
