"""Reading what an upstream sends, as long as it sends anything worth waiting for.

Somebody looks now and then at how long a stream has been silent; setting a timer for every read would cost more than everything
else that is done to a chunk, and one for every stream half a kilobyte.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import aiohttp

from openai_compat.errors import DeadlineExceeded
from openai_compat.gateway.order import Failure
from openai_compat.gateway.upstreams.errors import lost, too_late
from openai_compat.gateway.upstreams.plan import Response
from openai_compat.http.delays import Delay

COMMENTS = 5
"""Comments alone (``: ping``) keep a stream alive this many times as long as silence would."""
_FAREWELL = 0.25  # seconds that a connection has to end its answer after the answer's last event, to be used again
_LEAST_PAUSE = 0.001
GLANCE = 1.0
"""Seconds between looks at the connection: of framing that makes no sense aiohttp closes it and tells no reader."""


class Patience:
    """Reads of one answer. Only the time in which somebody waits counts: a client that is slow to take what
    came costs the upstream nothing.

    Args:
        first: seconds until the first event.
        idle: seconds between events.
        deadline: on the monotonic clock, for everything.
        glances: of ``GLANCE`` seconds, shared by many.
    """

    __slots__ = (
        "_began", "_cancelling", "_connection", "_content", "_deadline", "_event_at", "_glances", "_glancing", "_idle",
        "_life_at", "_limit", "_pause", "_said_at", "_task", "_timer", "_waited", "_woken",
    )  # fmt: skip

    def __init__(self, response: Response, *, first: float, idle: float, deadline: float, glances: Delay) -> None:
        self._content = response.content
        self._connection = response.connection
        self._limit = first
        self._idle = idle
        self._deadline = deadline
        self._pause = 0.0
        # Seconds of waiting so far, and where on this scale an event, a comment, and anything for the client came.
        self._waited = self._event_at = self._life_at = self._said_at = 0.0
        self._began = 0.0
        self._task: asyncio.Task[Any] | None = None
        self._glances = glances
        self._glancing = False
        self._timer: asyncio.TimerHandle | None = None  # for what is due before the next glance
        self._cancelling = 0
        self._woken = False

    def pause_for(self, seconds: float) -> None:
        """From now on ``read`` comes back after so many seconds without a byte for the client; never if 0."""
        self._pause = seconds
        self._said_at = self._waited
        self.close()

    def event(self) -> None:
        """A whole event came, and goes to the client."""
        self._event_at = self._life_at = self._said_at = self._waited
        self._limit = self._idle

    def hurry(self) -> None:
        """Only the end is still to come."""
        self._limit = self._idle = _FAREWELL
        self.close()

    def comment(self) -> None:
        """Something came that says only that the upstream lives."""
        self._life_at = self._said_at = self._waited

    async def read(self) -> bytes | None:
        """What is there; empty at the end, None after a pause.

        Raises ``Failure`` when the upstream breaks off or falls silent.
        """
        content = self._content
        if content.is_eof() and content.exception() is None:  # all of it is here, as small answers are at once
            return b"" if content.at_eof() else content.read_nowait()
        self._began = time.monotonic()
        self._task = task = asyncio.current_task()
        self._cancelling = task.cancelling() if task is not None else 0
        if not self._glancing and self._timer is None:
            self._arm()
        try:
            return await content.readany()
        except asyncio.CancelledError:
            if not self._woken or task is None or task.uncancel() > self._cancelling:
                raise
        except (aiohttp.ClientError, OSError, RuntimeError) as error:
            raise (too_late("The model's upstream fell silent.") if isinstance(error, TimeoutError) else lost()) from error
        finally:
            self._task = None
            self._waited += time.monotonic() - self._began
        self._after_pause()
        return None

    async def rest(self) -> None:
        """After the last event: let the connection come to its end, if it does at once."""
        self.close()
        with contextlib.suppress(aiohttp.ClientError, OSError, RuntimeError):
            async with asyncio.timeout(_FAREWELL):
                while not self._content.at_eof():
                    await self._content.readany()

    def close(self) -> None:
        if self._glancing:
            self._glancing = False
            self._glances.end(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _after_pause(self) -> None:
        self._woken = False
        if self._is_cut():
            raise lost()
        if self._deadline - time.monotonic() <= _LEAST_PAUSE:
            raise Failure("timeout", DeadlineExceeded("The request took longer than it may.", retry=False))
        if self._left(self._waited) <= _LEAST_PAUSE:
            raise too_late("The model's upstream fell silent.")
        self._said_at = self._waited

    def _is_cut(self) -> bool:
        """Whether nothing can come any more, and nothing waits to be read."""
        protocol = self._connection.protocol if self._connection is not None else None
        waits = self._content.is_eof() or self._content.exception() is not None
        return protocol is not None and not protocol.is_connected() and not waits

    def _left(self, waited: float) -> float:
        """Seconds until there is no use in waiting any longer."""
        return min(
            self._life_at + self._limit - waited,
            self._event_at + self._limit * COMMENTS - waited,
            self._deadline - time.monotonic(),
        )

    def _arm(self) -> None:
        waited = self._waited + (time.monotonic() - self._began)
        due = self._left(waited)
        if self._pause:
            due = min(due, self._said_at + self._pause - waited)
        if due >= GLANCE:
            self._glancing = True
            self._glances.begin(self)
        else:
            self._timer = asyncio.get_running_loop().call_later(max(due, _LEAST_PAUSE), self.over)

    def over(self) -> None:
        """The time to look has come."""
        self._glancing, self._timer = False, None
        if self._task is None:
            return  # nobody waits; the next read sets the timer
        waited = self._waited + (time.monotonic() - self._began)
        silent = self._pause and self._said_at + self._pause - waited <= _LEAST_PAUSE
        if silent or self._left(waited) <= _LEAST_PAUSE or self._is_cut():
            self._woken = True
            self._task.cancel()
        else:
            self._arm()
