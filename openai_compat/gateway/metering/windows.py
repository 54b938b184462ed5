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


class Step:
    """What came within one step. ``number`` counts steps since the clock's zero."""

    __slots__ = ("number", "sum")

    def __init__(self, number: int) -> None:
        self.number = number
        self.sum = 0


class Window:
    """Sums over ``steps`` steps of ``step`` seconds; times are given, in seconds of a clock that never goes back.

    Where it did, time would stand still here until it has caught up.
    """

    __slots__ = ("_ends", "_latest", "_step", "_steps", "_sums", "_total")

    def __init__(self, *, step: float, steps: int) -> None:
        self._step = step
        self._steps = steps
        self._sums: deque[Step] = deque()  # oldest first
        self._total = 0
        self._latest = 0
        self._ends = -math.inf  # when the latest step does

    def total(self, now: float) -> int:
        if now >= self._ends:
            self._advance(now)
        return self._total

    def add(self, now: float, amount: int) -> Step:
        """Returns what it went to, for corrections."""
        if now >= self._ends:
            self._advance(now)
        sums = self._sums
        if not sums or sums[-1].number != self._latest:
            sums.append(Step(self._latest))
        last = sums[-1]
        last.sum += amount
        self._total += amount
        return last

    def correct(self, step: Step, now: float, amount: int) -> None:
        """Change what was added to ``step``. Where that has left the window, only what is more than was known counts now."""
        if now >= self._ends:
            self._advance(now)
        if step.number >= self._latest - self._steps:
            step.sum += amount
            self._total += amount
        elif amount > 0:
            self.add(now, amount)

    def wait(self, now: float, amount: int) -> float:
        """Seconds until ``amount`` of the total will have left; infinity where there is not so much."""
        self.total(now)
        if amount <= 0:
            return 0.0
        for step in self._sums:
            amount -= step.sum
            if amount <= 0:
                return self._gone(step, now)
        return math.inf

    def clears(self, now: float) -> float:
        """Seconds until all of it will have left."""
        return self._gone(self._sums[-1], now) if self.total(now) else 0.0

    def _gone(self, step: Step, now: float) -> float:
        return max(0.0, (step.number + 1 + self._steps) * self._step - now)

    def _advance(self, now: float) -> None:
        number = int(now // self._step)
        if self._ends != -math.inf:
            number = max(self._latest, number)
        self._latest = number
        self._ends = (number + 1) * self._step
        oldest = number - self._steps
        while self._sums and self._sums[0].number < oldest:
            self._total -= self._sums.popleft().sum
