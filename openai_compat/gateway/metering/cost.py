"""What tokens cost, in whole numbers, so that no sum ever drifts.

A price is an amount for a million tokens, and a cost is counted in the million-millionth part of the currency: a price with up
to six decimals is then a whole number for each token, and finer ones are rounded once, before anything is counted.
"""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

from openai_compat.config import Price

UNIT = 10**12
"""How many of what is counted make one of the currency."""
_A_TOKEN = UNIT // 10**6  # of a price that is for a million
_DISTINCT_PRICES = 4096


class Counts(NamedTuple):
    """Tokens of one request. ``cached`` are those of ``prompt`` that were known already."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0


class Rates(NamedTuple):
    """A price in units of cost: for one token of each sort, and for one request."""

    prompt: int
    cached: int
    completion: int
    request: int

    def of(self, counts: Counts) -> int:
        """The cost of tokens alone."""
        cached = min(counts.cached, counts.prompt)
        return (counts.prompt - cached) * self.prompt + cached * self.cached + counts.completion * self.completion


@lru_cache(_DISTINCT_PRICES)
def rates_of(price: Price) -> Rates:
    cached = price.prompt if price.cached is None else price.cached
    return Rates(
        prompt=_units(price.prompt, _A_TOKEN),
        cached=_units(cached, _A_TOKEN),
        completion=_units(price.completion, _A_TOKEN),
        request=_units(price.request, UNIT),
    )


def units(amount: float) -> int:
    """An amount of the currency."""
    return _units(amount, UNIT)


def amount(cost: int) -> float:
    """As a client reads it: the nearest float, once, at the end."""
    return cost / UNIT


def _units(amount: float, scale: int) -> int:
    """By way of the decimals that were written, which a float only comes near to."""
    return round(Decimal(repr(amount)) * scale)
