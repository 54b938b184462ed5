"""What one key may use, reserved when a request is admitted and corrected when it is done."""

from __future__ import annotations

import math

from msgspec import Struct

from openai_compat.config import Metering
from openai_compat.errors import RateLimited
from openai_compat.gateway.metering.cost import amount, units
from openai_compat.gateway.metering.windows import Window

_DAY = 86_400
_PATIENCE = 120  # seconds that a client's own retries may wait


class Hold(Struct, frozen=True, kw_only=True):
    """What is reserved for one request; ``slots`` are the windows' steps that hold it."""

    tokens: int
    cost: int
    slots: tuple[int, ...]


class _Limit:
    def __init__(self, window: Window, most: int, name: str, *, of_cost: bool = False, daily: bool = True) -> None:
        self.window = window
        self.most = most
        self.of_cost = of_cost
        self._name = name
        self.daily = daily

    def check(self, now: float, wanted: int) -> None:
        """Raises ``RateLimited``."""
        used = self.window.total(now)
        if used + wanted <= self.most:
            return
        wait = self.window.wait(now, used + wanted - self.most)
        code = "insufficient_quota" if self.daily else "rate_limit_exceeded"
        facts = f"{self._name}: limit {self._shown(self.most)}, used {self._shown(used)}, requested {self._shown(wanted)}."
        if math.isinf(wait):
            raise RateLimited(f"The request is too large for this key's {facts}", code=code, retry=False)
        message = f"This key's limit is reached for {facts} Please try again in {math.ceil(wait)} s."
        raise RateLimited(message, code=code, retry_after=wait, retry=None if wait <= _PATIENCE else False)

    def _shown(self, value: int) -> str:
        return f"{amount(value):.6g}" if self.of_cost else str(value)


class Allowance:
    """The windows of one key."""

    def __init__(self, limits: Metering) -> None:
        self._limits: list[_Limit] = []
        if limits.tokens_per_minute is not None:
            self._limits.append(_Limit(Window(step=1, steps=60), limits.tokens_per_minute, "tokens per minute", daily=False))
        if limits.tokens_per_day is not None:
            self._limits.append(_Limit(_a_day(), limits.tokens_per_day, "tokens per day"))
        if limits.cost_per_day is not None:
            self._limits.append(_Limit(_a_day(), units(limits.cost_per_day), "cost per day", of_cost=True))

    def reserve(self, now: float, *, tokens: int, cost: int) -> Hold:
        """Raises ``RateLimited`` where it is more than is left; then nothing is reserved."""
        for limit in self._limits:
            limit.check(now, cost if limit.of_cost else tokens)
        slots = tuple([limit.window.add(now, cost if limit.of_cost else tokens) for limit in self._limits])
        return Hold(tokens=tokens, cost=cost, slots=slots)

    def settle(self, hold: Hold, now: float, *, tokens: int, cost: int) -> None:
        """Put what was really used in the place of what was reserved."""
        for limit, slot in zip(self._limits, hold.slots, strict=True):
            limit.window.correct(slot, now, cost - hold.cost if limit.of_cost else tokens - hold.tokens)

    def charge(self, now: float, *, tokens: int, cost: int) -> None:
        """What was used without a reservation."""
        for limit in self._limits:
            limit.window.add(now, cost if limit.of_cost else tokens)

    def recall(self, when: float, *, tokens: int, cost: int) -> None:
        """What was counted before, by the hour, oldest first: of no use to a limit of minutes."""
        for limit in (limit for limit in self._limits if limit.daily):
            limit.window.add(when, cost if limit.of_cost else tokens)

    def used(self, now: float) -> tuple[int, ...]:
        """What each limit has counted, reservations and all."""
        return tuple(limit.window.total(now) for limit in self._limits)


def _a_day() -> Window:
    return Window(step=_DAY / 96, steps=96)
