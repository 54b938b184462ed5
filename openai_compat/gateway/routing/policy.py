"""Which target of a route is asked first, and who follows.

Weighted choice is smooth: each target gets its share of any few requests in a row, where chance would give it its share of many
only. Nothing here is drawn by chance but the two of which ``LeastInFlight`` takes the better.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from math import log
from random import Random
from typing import Protocol, TypeVar

_HASHES = 1 << 64


class Entry(Protocol):
    """What a policy sees of a target. ``free``: it may be asked now; ``load`` are requests that it works on."""

    @property
    def name(self) -> str: ...
    @property
    def weight(self) -> float: ...
    @property
    def load(self) -> int: ...
    @property
    def free(self) -> bool: ...


class Policy(Protocol):
    """Picks one of ``entries``, which are at least one. It may remember what it picked."""

    def pick(self, entries: Sequence[Entry]) -> Entry: ...


E_co = TypeVar("E_co", bound=Entry)


class Ordered:
    """The first."""

    def pick(self, entries: Sequence[Entry]) -> Entry:
        return entries[0]


class RoundRobin:
    """One after the other, whatever their weights."""

    def __init__(self) -> None:
        self._turn = 0

    def pick(self, entries: Sequence[Entry]) -> Entry:
        self._turn += 1
        return entries[(self._turn - 1) % len(entries)]


class LeastInFlight:
    """Of two by chance the one with less to do for its weight. That is nearly as even as the least of all, and requests that
    come at the same time do not all go to the same target.
    """

    def __init__(self, random: Random) -> None:
        self._random = random

    def pick(self, entries: Sequence[Entry]) -> Entry:
        if len(entries) == 1:
            return entries[0]
        return min(self._random.sample(entries, 2), key=_strain)


class Weighted:
    """Each in turn gets its weight added, the one with the most is picked and pays for all: the smooth round robin of nginx."""

    def __init__(self) -> None:
        self._credit: dict[str, float] = {}

    def pick(self, entries: Sequence[Entry]) -> Entry:
        credit = self._credit
        for entry in entries:
            credit[entry.name] = credit.get(entry.name, 0.0) + entry.weight
        picked = max(entries, key=lambda entry: credit[entry.name])
        credit[picked.name] -= sum(entry.weight for entry in entries)
        return picked


def policy_of(name: str, random: Random) -> Policy:
    made: dict[str, Callable[[], Policy]] = {
        "ordered": Ordered,
        "round_robin": RoundRobin,
        "least_in_flight": lambda: LeastInFlight(random),
        "weighted": Weighted,
    }
    return made[name]()


def arranged(policy: Policy, entries: Sequence[E_co]) -> list[E_co]:
    """The one that ``policy`` picks among the free ones, then the others in their order, as on a ring."""
    picked = policy.pick([entry for entry in entries if entry.free] or entries)
    place = next(place for place, entry in enumerate(entries) if entry is picked)
    return [*entries[place:], *entries[:place]]


def ranked(key: bytes, entries: Sequence[E_co]) -> list[E_co]:
    """By rendezvous hashing: the same order for the same key, each first for its share of the keys.

    An entry that is lost or added moves only the keys for which it is first.
    """
    return sorted(entries, key=lambda entry: _distance(key, entry))


def _strain(entry: Entry) -> float:
    return (entry.load + 1) / entry.weight


def _distance(key: bytes, entry: Entry) -> float:
    """Exponentially distributed at the rate of the weight: who comes first of several is so in the ratio of the weights."""
    digest = blake2b(entry.name.encode(), key=blake2b(key).digest(), digest_size=8).digest()
    return -log((int.from_bytes(digest, "big") + 1) / (_HASHES + 1)) / entry.weight
