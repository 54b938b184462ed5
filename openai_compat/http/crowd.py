"""How many are let in: connections, requests at once, and, where there is more to do than can be done, requests at a time.

That is so when requests are begun in long rows, one row after another, for a while: then no more than a few may wait to be
begun, and the others are told at once to come again, until nobody had to be told for a while. A row is what is begun between
two looks at the sockets. One long row is only many clients who come at the same moment, and one that is long because other
programs had the processor holds no more than can be done.
"""

from __future__ import annotations

import logging
import time
from collections import deque

from litestar.types import ASGIApp, Receive, Scope, Send

_ROW = 0.02  # seconds of the processor that a row may take
_PATIENCE = 0.25  # seconds of long rows, and then seconds in which nobody was told to come again
_PAUSE = 0.1  # seconds between two rows, after which they are not one after another
_FEW = 16
_SEVERAL = 6  # in a row: there is no room for anybody besides
_SILENCE = 10.0  # seconds between two lines of the log
_logger = logging.getLogger("openai_compat.http")


class Crowd:
    """Everybody at one door.

    Args:
        connections: so many may be connected.
        in_flight: so many requests may be under way that bring a body.
        arrival: seconds that a connection may take to come about, with its TLS handshake.
        setting: whose number of connections it is, for the log.
    """

    def __init__(
        self, *, connections: int, in_flight: int, arrival: float = 5.0, setting: str = "server.max_connections"
    ) -> None:
        self._in_flight = in_flight
        self.connected = 0
        self.running = 0
        self.refused = 0
        self._connections = connections
        self._arrival = arrival
        self._setting = setting
        self._arriving: deque[float] = deque()
        self._rows = _Rows()
        self._told = float("-inf")

    # ------------------------------------------------------------ connections

    def full(self) -> bool:
        """Whether another connection is one too many; if not, it arrives."""
        now = time.monotonic()
        while self._arriving and self._arriving[0] < now - self._arrival:
            self._arriving.popleft()  # its handshake came to nothing
        if self.connected + len(self._arriving) >= self._connections:
            self.refuse(f"{self._connections} clients are connected ({self._setting})")
            return True
        self._arriving.append(now)
        return False

    def arrive(self) -> None:
        if self._arriving:
            self._arriving.popleft()
        self.connected += 1

    def leave(self) -> None:
        self.connected -= 1

    # ------------------------------------------------------------ requests

    def allow(self, in_flight: int) -> None:
        """Another number from now on."""
        self._in_flight = in_flight

    def objection(self, *, late: bool = False) -> str:
        """Why another request is one too many; nothing where it is not, and then it waits to be begun.

        ``late``: its client has waited already, so that it would not be answered in time. There are others who have not.
        """
        if self.running >= self._in_flight:
            return f"{self._in_flight} are under way (server.max_in_flight)"
        if self._rows.too_long(late=late):
            return "they come faster than they can be begun"
        self.running += 1
        self._rows.waiting += 1
        return ""

    def around(self, app: ASGIApp) -> ASGIApp:
        """``app`` for requests to which there was no objection."""

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            self._rows.begin(time.monotonic())
            try:
                await app(scope, receive, send)
            finally:
                self.running -= 1

        return counted

    def refuse(self, why: str) -> None:
        """Count it, and tell the log now and then."""
        self.refused += 1
        now = time.monotonic()
        if now - self._told >= _SILENCE:
            self._told = now
            _logger.warning("clients are turned away, %d so far: %s", self.refused, why)


class _Rows:
    """Tells by how long the latest rows took whether the next may be as long."""

    def __init__(self) -> None:
        self.waiting = 0
        self._reached = 0  # the most that waited since the row began
        self._length = self._last_length = 0
        self._began = self._last = float("-inf")
        self._long_since: float | None = None
        self._pressed = False
        self._cut_at = float("-inf")  # when it was last said
        self._asked = self._worked = 0.0  # when it was last asked what this thread has worked, and that

    def too_long(self, *, late: bool) -> bool:
        if not self._pressed:
            return False
        if self.waiting < _FEW and not (late and self._last_length >= _SEVERAL):
            return False
        self._cut_at = time.monotonic()
        return True

    def begin(self, now: float) -> None:
        """One of those that wait is begun."""
        if self.waiting > self._reached:  # more have come since: it is the first of its row
            self._judge(now)
            self._began = now
            self._length, self._last_length = 0, self._length
        self._length += 1
        self._last = now
        self.waiting -= 1
        self._reached = self.waiting

    def _judge(self, now: float) -> None:
        long = now - self._cut_at < _PATIENCE or self._took_long(now)
        if not long or now - self._last > _PAUSE:
            self._long_since = None
            self._pressed = False
            return
        if self._long_since is None:
            self._long_since = self._began
        self._pressed = now - self._long_since > _PATIENCE

    def _took_long(self, now: float) -> bool:
        """Whether the last row did, by as much of that time as this thread has worked; to ask the system takes microseconds."""
        length = self._last - self._began
        if length <= _ROW:
            return False
        worked = time.thread_time()
        share = (worked - self._worked) / max(now - self._asked, length)
        self._asked, self._worked = now, worked
        return length * share > _ROW
