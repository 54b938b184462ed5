"""How much, and how long, one connection may be."""

from __future__ import annotations

from msgspec import Struct


class Limits(Struct, frozen=True, kw_only=True):
    """Sizes in bytes, times in seconds.

    ``header_time`` is for all headers together, ``body_gap`` for the silence between two pieces of a body, ``write_stall`` for
    a reader who takes nothing while an answer waits. In each ``body_window`` at least ``body_rate`` bytes a second must come of
    a body. Of a chunked one, ``chunk_slack`` bytes and fifteen for each of the body's may be about chunks. ``pipelined``
    requests may wait for the answer to the one before them.
    """

    header_bytes: int = 32 * 1024
    header_count: int = 100
    header_time: float = 5.0
    body_gap: float = 5.0
    body_window: float = 10.0
    body_rate: int = 1024
    chunk_slack: int = 64 * 1024
    pipelined: int = 64
    write_stall: float = 30.0

    def too_much_framing(self, fed: int, body: int) -> bool:
        """Whether of ``fed`` bytes, ``body`` of which were a body's, the others are more than chunks need."""
        return fed - body > self.chunk_slack + 15 * body


class Pace:
    """Whether a body comes fast enough, looked at from time to time; a body that comes at once needs none."""

    __slots__ = ("_began", "_limits", "_mark", "excused")

    def __init__(self, limits: Limits, began: float) -> None:
        self._limits = limits
        self._began = began
        self._mark = 0
        self.excused = False

    def left(self, now: float, received: int) -> float:
        """Seconds until it must be looked at again; none where too little has come."""
        end = self._began + self._limits.body_window
        if now < end:
            return end - now
        if received - self._mark < self._limits.body_rate * (now - self._began):
            return 0.0
        self.restart(now, received)
        return self._limits.body_window

    def restart(self, now: float, received: int) -> None:
        """Count from here."""
        self._began = now
        self._mark = received
