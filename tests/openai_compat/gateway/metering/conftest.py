"""A ledger with a clock in the test's hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from openai_compat.config import Metering, Price
from openai_compat.gateway.metering.ledger import Ledger
from openai_compat.gateway.metering.tally import Tally
from openai_compat.gateway.order import Choice, Envelope, LocalTarget

START = 1_800_000_000.0  # a full hour


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


class Desk:
    """Opens accounts for requests of four prompt tokens."""

    BODY = b'{"model": "m"}  '

    def __init__(self, clock: Clock, limits: Metering) -> None:
        self.clock = clock
        self.ledger = Ledger(limits, clock=clock)

    def open(self, key: str = "k", *, price: Price | None = None, path: str = "/v1/chat/completions", **fields: Any) -> Tally:
        price = price or Price()
        choices = [Choice(target=LocalTarget(model_id="m", price=price))]
        tally = self.ledger.open(key, path=path, body=self.BODY, envelope=Envelope(**fields), choices=choices)
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
