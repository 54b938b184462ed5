"""How much there was within the last minute, the last day: sliding, and never less than the truth.

A sliding window of small steps, each with the sum of what came in it. A step leaves the window when its last moment does, so no
stretch of the window's length, wherever it begins, ever holds more than a limit allows: neither a burst at the turn of a
minute, as with fixed windows, nor one after a rest, as with a bucket that was full (which lets twice the limit pass). The price
is that a limit frees up to one step late. The scheme between these, two counters weighted by time, is estimated, since it
takes requests as evenly spread: see Cloudflare's "How we built rate limiting capable of scaling to millions of domains" (2017).
"""

from __future__ import annotations

import math
from collections import deque


class Window:
    """Sums over ``steps`` steps of ``step`` seconds; times are given, in seconds of any clock.

    Where the clock goes back, time stands still here until it has caught up.
    """

    def __init__(self, *, step: float, steps: int) -> None:
        self._step = step
        self._steps = steps
        self._sums: deque[list[int]] = deque()  # number of the step, sum; oldest first
        self._total = 0
        self._latest = 0
        self._ends = 0.0  # when the latest step does

    def total(self, now: float) -> int:
        self._slot(now)
        return self._total

    def add(self, now: float, amount: int) -> int:
        """Returns the step that it went to, for corrections."""
        slot = self._slot(now)
        if not self._sums or self._sums[-1][0] != slot:
            self._sums.append([slot, 0])
        self._sums[-1][1] += amount
        self._total += amount
        return slot

    def correct(self, slot: int, now: float, amount: int) -> None:
        """Change what was added to ``slot``. Where that has left the window, only what is more than was known counts now."""
        self._slot(now)
        for entry in reversed(self._sums):
            if entry[0] == slot:
                entry[1] += amount
                self._total += amount
                return
        if amount > 0:
            self.add(now, amount)

    def wait(self, now: float, amount: int) -> float:
        """Seconds until ``amount`` of the total will have left; infinity where there is not so much."""
        self._slot(now)
        if amount <= 0:
            return 0.0
        for slot, held in self._sums:
            amount -= held
            if amount <= 0:
                return max(0.0, (slot + 1 + self._steps) * self._step - now)
        return math.inf

    def _slot(self, now: float) -> int:
        if now < self._ends:
            return self._latest
        slot = self._latest = max(self._latest, int(now // self._step))
        self._ends = (slot + 1) * self._step
        while self._sums and self._sums[0][0] < slot - self._steps:
            self._total -= self._sums.popleft()[1]
        return slot
