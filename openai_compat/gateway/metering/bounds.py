"""What one key may use: its own limits, and the server's where it has none of its own."""

from __future__ import annotations

from typing import NamedTuple

from openai_compat.config import Metering
from openai_compat.gateway.metering.cost import units
from openai_compat.grants import KeyLimits


class Bounds(NamedTuple):
    """None is no limit. Costs are in units of cost."""

    requests_per_minute: int | None
    tokens_per_minute: int | None
    tokens_per_day: int | None
    cost_per_day: int | None
    concurrent_requests: int | None
    budget: int | None

    @property
    def exist(self) -> bool:
        return any(value is not None for value in self)


def bounds_of(own: KeyLimits, defaults: Metering) -> Bounds:
    cost = own.cost_per_day if own.cost_per_day is not None else defaults.cost_per_day
    lifted = own.cost_per_day == 0
    return Bounds(
        requests_per_minute=_either(own.requests_per_minute, defaults.requests_per_minute),
        tokens_per_minute=_either(own.tokens_per_minute, defaults.tokens_per_minute),
        tokens_per_day=_either(own.tokens_per_day, defaults.tokens_per_day),
        cost_per_day=None if cost is None or lifted else units(cost),
        concurrent_requests=_either(own.concurrent_requests, defaults.concurrent_requests),
        budget=units(own.budget) if own.budget else None,
    )


def _either(own: int | None, default: int | None) -> int | None:
    """A key's own 0 lifts the server's limit."""
    return default if own is None else own or None
