"""Answers that go on while they come: streams of events, and bytes of any kind."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from http import HTTPStatus

from openai_compat.gateway.order import Failure
from openai_compat.gateway.replica import Headers
from openai_compat.gateway.upstreams.errors import NOTHING, Refusal, nonsense
from openai_compat.gateway.upstreams.patience import Patience
from openai_compat.gateway.upstreams.stream import Guard
from openai_compat.http.sse import HEADERS, MEDIA_TYPE, PING

logger = logging.getLogger(__name__)
_SHORTEST_HOLD = 0.001


class Passing:
    """An answer that goes through as it is, from ``first`` on."""

    def __init__(self, status: int, headers: Headers, first: list[bytes], patience: Patience) -> None:
        self.status = status
        self.headers = headers
        self._first = first
        self._patience = patience

    async def chunks(self) -> AsyncIterator[bytes]:
        patience = self._patience
        first, self._first = self._first, []
        try:
            for chunk in first:
                yield chunk
            while chunk := await patience.read() or b"":
                patience.event()
                yield chunk
        except Failure as failure:
            raise failure.error from failure
        finally:
            patience.close()


class Streaming:
    """A stream of events, of which the first ones are there, or late. ``upstream`` is its name for the log."""

    def __init__(self, guard: Guard, first: bytes, patience: Patience, upstream: str) -> None:
        self.status = int(HTTPStatus.OK)
        self.headers: Headers = [(b"content-type", MEDIA_TYPE.encode())]
        self.headers += [(name.encode(), value.encode()) for name, value in HEADERS.items()]
        self._guard = guard
        self._first = first
        self._patience = patience
        self._upstream = upstream

    async def chunks(self) -> AsyncIterator[bytes]:
        guard, patience = self._guard, self._patience
        try:
            yield self._first
            while guard.failure is None and not guard.done:
                chunk = await patience.read()
                out = PING if chunk is None else take(guard, patience, chunk)
                if out:
                    yield out
            if guard.failure is not None:
                raise guard.failure
            await patience.rest()
        except (Failure, Refusal) as failure:
            logger.warning("upstream '%s': in a stream: %s", self._upstream, failure.error.message)
            raise failure.error from failure
        finally:
            patience.close()


def take(guard: Guard, patience: Patience, chunk: bytes) -> bytes:
    """What of ``chunk`` goes to the client. Whole events start the clock anew, anything else only tells of life."""
    events = guard.events
    out = guard.feed(chunk) if chunk else guard.end()
    if guard.events != events:
        patience.event()
    elif out:
        patience.comment()
    return out


async def first_events(guard: Guard, patience: Patience, hold: float) -> bytes:
    """What a stream begins with: its first events, or a ping where they take longer than ``hold`` seconds.

    Raises ``Failure`` or ``Refusal`` for a stream that never was one.
    """
    until = time.monotonic() + hold
    while True:
        patience.pause_for(max(until - time.monotonic(), _SHORTEST_HOLD))
        chunk = await patience.read()
        if chunk is None:
            return PING
        out = take(guard, patience, chunk)
        if guard.failure is not None and not out:
            raise guard.failure
        if out and (guard.events or not chunk):
            return out
        if not chunk:
            raise nonsense(NOTHING)
