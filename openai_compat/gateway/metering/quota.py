"""One limit of a key: its window, how much is used of it, and the words for whoever wants more."""

from __future__ import annotations

import math
from typing import NamedTuple

from openai_compat.errors import RateLimited
from openai_compat.gateway.metering.cost import amount
from openai_compat.gateway.metering.windows import Window

DAY = 86_400
_QUARTERS = 96  # of an hour, in a day
_PATIENCE = 120  # seconds that a client's own retries may wait
REQUESTS, TOKENS, COST = range(3)


class Use(NamedTuple):
    """What was used at some time, in seconds of the limits' clock; that is not known so exactly of what is kept by the hour."""

    when: float
    tokens: int
    cost: int
    by_hour: bool = False

    def amount(self, of: int) -> int:
        return self.cost if of == COST else self.tokens


class Standing(NamedTuple):
    """How much of one limit is used, reservations and all; in units of cost where it is one of cost."""

    name: str
    most: int
    used: int

    @property
    def of_cost(self) -> bool:
        return self.name in ("cost_per_day", "budget")


class Limit:
    __slots__ = ("daily", "most", "name", "of", "window")

    def __init__(self, name: str, of: int, *, daily: bool) -> None:
        self.name = name
        self.of = of
        self.daily = daily
        self.window = Window(step=DAY / _QUARTERS, steps=_QUARTERS) if daily else Window(step=1, steps=60)
        self.most = 0

    def refusal(self, now: float, wanted: int) -> RateLimited:
        used = self.window.total(now)
        wait = self.window.wait(now, used + wanted - self.most)
        code = "insufficient_quota" if self.daily else "rate_limit_exceeded"
        facts = facts_of(self.name, self.most, used, wanted, of_cost=self.of == COST)
        if math.isinf(wait):
            return RateLimited(f"The request is too large for this key's {facts}", code=code, retry=False)
        message = f"This key's limit is reached for {facts} Please try again in {math.ceil(wait)} s."
        return RateLimited(message, code=code, retry_after=wait, retry=None if wait <= _PATIENCE else False)


def too_many(most: int, running: int) -> RateLimited:
    facts = facts_of("concurrent_requests", most, running, 1, of_cost=False)
    return RateLimited(f"This key's limit is reached for {facts}", code="concurrency_limit_exceeded", retry_after=1)


def facts_of(name: str, most: int, used: int, wanted: int, *, of_cost: bool) -> str:
    shown = [f"{amount(value):.6g}" if of_cost else str(value) for value in (most, used, wanted)]
    return f"{name.replace('_', ' ')}: limit {shown[0]}, used {shown[1]}, requested {shown[2]}."
