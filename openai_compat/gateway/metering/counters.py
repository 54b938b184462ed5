"""What was used, by key, model and hour: sums since the start for metrics, and what is still to be written."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import NamedTuple

from openai_compat.gateway.metering.cost import Counts

HOUR = 3600


class Place(NamedTuple):
    """What a sum is about. ``hour`` counts from the epoch."""

    key_id: str
    label: str
    hour: int = 0


class Sums:
    """``estimated`` are those of the prompt and completion tokens that nobody counted; ``cost`` is in units of cost."""

    __slots__ = ("cached", "completion", "cost", "estimated", "prompt", "requests")

    def __init__(
        self, requests: int = 0, prompt: int = 0, cached: int = 0, completion: int = 0, estimated: int = 0, cost: int = 0
    ) -> None:
        self.requests = requests
        self.prompt = prompt
        self.cached = cached
        self.completion = completion
        self.estimated = estimated
        self.cost = cost

    @property
    def tokens(self) -> int:
        return self.prompt + self.completion

    def add(self, other: Sums) -> None:
        self.requests += other.requests
        self.prompt += other.prompt
        self.cached += other.cached
        self.completion += other.completion
        self.estimated += other.estimated
        self.cost += other.cost

    def count(self, counts: Counts, cost: int, *, estimated: bool = False) -> None:
        self.prompt += counts.prompt
        self.cached += counts.cached
        self.completion += counts.completion
        self.estimated += counts.prompt + counts.completion if estimated else 0
        self.cost += cost


Table = dict[Place, Sums]


class Counters:
    """All sums of this process. Keys and labels are from closed sets, and so is what is kept here."""

    def __init__(self) -> None:
        self.since_start: Table = {}
        self.news = asyncio.Event()
        """Set while there is something to write."""
        self._unwritten: Table = {}

    def book(self, key_id: str, label: str, now: float, sums: Sums) -> None:
        """Count at ``now``, in Unix seconds."""
        added(self.since_start, Place(key_id, label), sums)
        added(self._unwritten, Place(key_id, label, int(now // HOUR)), sums)
        self.news.set()

    @property
    def unwritten(self) -> Iterable[tuple[Place, Sums]]:
        return self._unwritten.items()

    def take(self) -> Table:
        """What is to be written; whoever cannot write it gives it back."""
        taken, self._unwritten = self._unwritten, {}
        self.news.clear()
        return taken

    def give_back(self, table: Table) -> None:
        for place, sums in table.items():
            added(self._unwritten, place, sums)
        if table:
            self.news.set()


def added(table: Table, place: Place, sums: Sums) -> None:
    found = table.get(place)
    if found is None:
        found = table[place] = Sums()
    found.add(sums)
