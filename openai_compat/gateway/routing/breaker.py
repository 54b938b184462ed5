"""Leaving a target alone that keeps failing, and finding out whether it is back.

closed ──failures in a row──▶ open ──pause──▶ half-open ──a success──▶ closed
                               ▲                  │
                               └──── a failure ───┘  (the next pause is twice as long)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from openai_compat.config import Breaker

State = Literal["closed", "open", "half_open"]
Clock = Callable[[], float]
# Seconds; what a target asks for beyond this is looked at again.
_LONGEST_ASIDE = 3600.0


class Circuit:
    """The breaker of one target, in seconds of ``clock``. Without ``settings`` it never opens.

    Who is admitted gets a ticket, and says with it how it went: ``succeeded``, ``failed``, or ``dropped`` where nothing can be
    said. What was admitted before the last change of the state has no say any more.

    Half open, one request is let through to try; another one where that takes longer than the pause, as whole answers do.
    """

    def __init__(self, settings: Breaker | None, clock: Clock = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._state: State = "closed"
        self._generation = 0
        self._failures = 0
        self._pause = settings.pause if settings is not None else 0.0
        self._until = 0.0
        self._aside = 0.0
        self._probed: float | None = None

    @property
    def state(self) -> State:
        return self._state

    def admit(self) -> int | None:
        """A ticket, or None while the target is left alone."""
        if self._state == "closed":
            return self._generation
        if self.left_alone_for() > 0:
            return None
        if self._state == "open":
            self._change("half_open")
        self._probed = self._clock()
        return self._generation

    def left_alone_for(self) -> float:
        """Seconds until somebody is admitted; 0 where it would be now."""
        if self._state == "closed":
            return 0.0
        if self._state == "open":
            return max(0.0, self._until - self._clock())
        return 0.0 if self._probed is None else max(0.0, self._probed + self._pause - self._clock())

    def aside_for(self) -> float:
        """Seconds for which the target asked to be left in peace."""
        return max(0.0, self._aside - self._clock()) if self._aside else 0.0

    def set_aside(self, seconds: float) -> None:
        """It has said itself when it wants to be asked again, which is no failure."""
        self._aside = max(self._aside, self._clock() + min(seconds, _LONGEST_ASIDE))

    def succeeded(self, ticket: int) -> int:
        """Returns a ticket for what may still be said."""
        if ticket != self._generation:
            return ticket
        self._failures = 0
        if self._state == "half_open" and self._settings is not None:
            self._change("closed")
        return self._generation

    def failed(self, ticket: int) -> None:
        if ticket != self._generation or self._settings is None:
            return
        self._failures += 1
        if self._state == "half_open":
            self._pause = min(self._pause * 2, self._settings.pause_max)
            self._open()
        elif self._failures >= self._settings.failures:
            self._pause = min(self._settings.pause, self._settings.pause_max)
            self._open()

    def dropped(self, ticket: int) -> None:
        """Another one may try in its place."""
        if ticket == self._generation:
            self._probed = None

    def _open(self) -> None:
        self._until = self._clock() + self._pause
        self._change("open")

    def _change(self, state: State) -> None:
        self._state = state
        self._generation += 1
        self._failures = 0
        self._probed = None
