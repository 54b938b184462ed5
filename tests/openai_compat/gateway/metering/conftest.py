"""A ledger with a clock in the test's hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from openai_compat.config import Metering, Price
from openai_compat.gateway.metering.ledger import Ledger
from openai_compat.gateway.metering.tally import Tally
from openai_compat.gateway.order import Choice, Envelope, LocalTarget
from openai_compat.grants import Grant, KeyLimits

START = 1_800_000_000.0  # a full hour


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


class Desk:
    """Opens accounts for requests of four prompt tokens. Whose ``grants`` are not set has the limits of the server."""

    BODY = b'{"model": "m"}  '

    def __init__(self, clock: Clock, limits: Metering) -> None:
        self.clock = clock
        self.steady = Clock()
        self.ledger = Ledger(limits, clock=clock, steady=self.now)
        self.grants: dict[str, Grant] = {}

    def now(self) -> float:
        """Of the clock that nobody sets; it goes with the other one here."""
        return self.steady.now + self.clock.now - START

    def allow(self, key: str = "k", **limits: Any) -> Grant:
        """Give a key limits of its own, as its owner would while the server runs."""
        grant = self.grants[key] = Grant(key_id=key, limits=KeyLimits(**limits))
        return grant

    def grant(self, key: str = "k") -> Grant:
        return self.grants.setdefault(key, Grant(key_id=key))

    def used_of(self, name: str, key: str = "k") -> int:
        """What the limit ``name`` has counted."""
        return next(found.used for found in self.ledger.standing(self.grant(key)) if found.name == name)

    def open(self, key: str = "k", *, price: Price | None = None, path: str = "/v1/chat/completions", **fields: Any) -> Tally:
        price = price or Price()
        choices = [Choice(target=LocalTarget(model_id="m", price=price))]
        tally = self.ledger.open(self.grant(key), path=path, body=self.BODY, envelope=Envelope(**fields), choices=choices)
        tally.aim("m", price)
        return tally

    def spend(self, tokens: int, key: str = "k", **options: Any) -> None:
        tally = self.open(key, max_tokens=max(0, tokens - 4), **options)
        tally.used(4, max(0, tokens - 4))
        tally.close(complete=True)

    def used(self, key: str = "k", label: str = "m") -> dict[str, int]:
        found = next(
            (sums for place, sums in self.ledger.counters.since_start.items() if (place.key_id, place.label) == (key, label)),
            None,
        )
        names = ("requests", "prompt", "cached", "completion", "estimated", "cost")
        return {name: value for name in names if (value := getattr(found, name, 0))}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def desk(clock: Clock) -> Callable[..., Desk]:
    return lambda **limits: Desk(clock, Metering(**limits))
