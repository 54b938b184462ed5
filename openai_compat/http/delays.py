"""Many waits of one length with one timer: a timer of the event loop for each takes half a kilobyte, and more time to set."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Waiting(Protocol):
    """Somebody whose time may come. Hashable by identity."""

    def over(self) -> None:
        """The time is over, and nobody waits for it any more."""


class Delay:
    """One length of time, in seconds. Whoever began first is through first, so the first one's timer is enough."""

    __slots__ = ("_due", "_loop", "_timer", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._due: dict[Waiting, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def begin(self, waiting: Waiting) -> None:
        """From now on; whoever waited already begins anew."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # a timer of another one never comes
            self._loop, self._timer = loop, None
            self._due.clear()
        self._due.pop(waiting, None)
        self._due[waiting] = loop.time() + self.seconds
        if self._timer is None:
            self._timer = loop.call_later(self.seconds, self._look)

    def end(self, waiting: Waiting) -> None:
        """Also of one who does not wait. The timer stays: it is as cheap to find nobody."""
        self._due.pop(waiting, None)

    def _look(self) -> None:
        self._timer = None
        try:
            self._pass(asyncio.get_running_loop().time())
        finally:
            self._arm()

    def _pass(self, now: float) -> None:
        through = []
        for waiting, due in self._due.items():
            if due > now:
                break
            through.append((waiting, due))
        for waiting, due in through:
            if self._due.get(waiting) == due:  # nobody before has ended it
                del self._due[waiting]
                waiting.over()

    def _arm(self) -> None:
        if self._timer is None and self._loop is not None and self._due:
            self._timer = self._loop.call_at(next(iter(self._due.values())), self._look)
