"""Who holds how much memory on which device, and where a model fits. Numbers only: nothing here starts or stops anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from openai_compat.errors import InsufficientMemory
from openai_compat.gateway.memory import HOST, account_of, has_mps
from openai_compat.protocol import Memory
from openai_compat.sizes import format_size

Amounts = Mapping[str, int]  # bytes by account: ``host``, ``cuda:0`` …


class Placement(Struct, frozen=True):
    """A device for a model, and what the model takes of each account there."""

    device: str
    amounts: dict[str, int]


class Budget:
    """Limits, reservations by owner, and what was measured of each owner before."""

    def __init__(self, limits: Amounts) -> None:
        self._limits = dict(limits)
        self._held: dict[str, dict[str, int]] = {}
        self._measured: dict[str, dict[str, dict[str, int]]] = {}

    @property
    def limits(self) -> dict[str, int]:
        return dict(self._limits)

    @limits.setter
    def limits(self, limits: Amounts) -> None:
        """Smaller ones take nothing away from anybody: there is less room for the next."""
        self._limits = dict(limits)

    def used(self, account: str) -> int:
        return sum(held.get(account, 0) for held in self._held.values())

    def free(self, account: str) -> int:
        return self._limits.get(account, 0) - self.used(account)

    def held(self, owner: str) -> dict[str, int]:
        return self._held.get(owner, {})

    def reserve(self, owner: str, amounts: Amounts) -> None:
        self._held[owner] = dict(amounts)

    def release(self, owner: str) -> None:
        self._held.pop(owner, None)

    def rename(self, owner: str, name: str) -> None:
        """What ``owner`` holds, and what was measured of it, is ``name``'s from now on."""
        if owner in self._held:
            self._held[name] = self._held.pop(owner)
        if owner in self._measured:
            self._measured[name] = self._measured.pop(owner)

    def forget(self, owner: str) -> None:
        """It will not come back."""
        self._held.pop(owner, None)
        self._measured.pop(owner, None)

    def correct(self, owner: str, device: str, memory: Memory, floor: int = 0) -> None:
        """Replace the estimate by the most that was seen so far; a measurement of nothing says nothing.

        ``floor`` is what the operator said it takes.
        """
        if memory.host <= 0 and not memory.devices:
            return
        seen = self._measured.setdefault(owner, {}).setdefault(device, {})
        for account, size in {HOST: memory.host, **memory.devices}.items():
            seen[account] = max(size, seen.get(account, 0))
        if owner in self._held:
            self._held[owner] = self._with_floor(seen, account_of(device), floor)

    def placements(self, owner: str, devices: Iterable[str], estimate: int, floor: int = 0) -> list[Placement]:
        """What ``owner`` needs on each of ``devices``, from measurement where there is one."""
        return [Placement(device, self._need(owner, device, estimate, floor)) for device in devices]

    def devices_for(self, wanted: str | tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
        """The devices that the setting ``device`` allows, in groups: a later group serves only what an earlier cannot hold.

        ``auto`` is a GPU with room (the emptiest first), else mps on macOS, else the processor; a list is one group.
        """
        if isinstance(wanted, tuple):
            return (tuple(name for name in wanted if self._exists(name)),)
        gpus = tuple(sorted((name for name in self._limits if name != HOST), key=lambda name: (-self.free(name), name)))
        if wanted == "cuda":
            return (gpus,)
        if wanted != "auto":
            return ((wanted,) if self._exists(wanted) else (),)
        return (gpus, ("mps",) if has_mps() else (), ("cpu",))

    def allowed(self, placement: Placement, unmovable: Amounts) -> bool:
        """Whether it would fit if everything but ``unmovable`` went away."""
        return all(size <= self._limits.get(name, 0) - unmovable.get(name, 0) for name, size in placement.amounts.items())

    def fits(self, placement: Placement) -> bool:
        """Whether it fits now."""
        return all(size <= self.free(name) for name, size in placement.amounts.items())

    def refusal(self, owner: str, placements: Iterable[Placement], unmovable: Amounts) -> InsufficientMemory:
        """The error for a model that can never fit, with both numbers for each device."""
        parts = [
            f"it needs {format_size(size)} on {name}, where {self._room(name, unmovable)}"
            for placement in placements
            for name, size in placement.amounts.items()
            if size > self._limits.get(name, 0) - unmovable.get(name, 0)
        ]
        reason = "; ".join(dict.fromkeys(parts)) or "this machine has none of the devices it may use"
        return InsufficientMemory(f"The model '{owner}' cannot be loaded: {reason}.", retry=False)

    def _room(self, account: str, unmovable: Amounts) -> str:
        limit = f"the budget for all models is {format_size(self._limits.get(account, 0))}"
        pinned = unmovable.get(account, 0)
        return f"{limit} and pinned models hold {format_size(pinned)}" if pinned else limit

    def _need(self, owner: str, device: str, estimate: int, floor: int) -> dict[str, int]:
        account = account_of(device)
        seen = self._measured.get(owner, {}).get(device)
        if seen is None:
            return {account: max(estimate, floor)}
        needs = self._with_floor(seen, account, floor)
        # What once ran must not be refused for having grown past the limit: it takes the whole.
        return {
            name: min(size, max(self._limits.get(name, 0), estimate if name == account else 0)) for name, size in needs.items()
        }

    def _with_floor(self, seen: Amounts, account: str, floor: int) -> dict[str, int]:
        return {**seen, account: max(floor, seen.get(account, 0))}

    def _exists(self, device: str) -> bool:
        if device == "mps":
            return has_mps()
        return account_of(device) in self._limits
