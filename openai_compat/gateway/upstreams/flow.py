"""Answers that go on while they come: streams of events, and bytes of any kind."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from http import HTTPStatus

from openai_compat.gateway.order import Failure
from openai_compat.gateway.replica import Answer, Headers
from openai_compat.gateway.upstreams.errors import MIXED_UP, NOTHING, Refusal, nonsense
from openai_compat.gateway.upstreams.patience import Patience
from openai_compat.gateway.upstreams.stream import Guard
from openai_compat.gateway.upstreams.whole import Ready
from openai_compat.http.sse import HEADERS, MEDIA_TYPE, PING

logger = logging.getLogger(__name__)
_HEADERS: Headers = [
    (b"content-type", MEDIA_TYPE.encode()),
    *((name.encode(), value.encode()) for name, value in HEADERS.items()),
]


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
    """A stream of events, of which the first ones are there. ``upstream`` is its name for the log."""

    def __init__(self, guard: Guard, first: bytes, patience: Patience, upstream: str) -> None:
        self.status = int(HTTPStatus.OK)
        self.headers = list(_HEADERS)
        self._guard = guard
        self._first = first
        self._patience = patience
        self._upstream = upstream

    async def chunks(self) -> AsyncIterator[bytes]:
        guard, patience = self._guard, self._patience
        try:
            first, self._first = self._first, b""
            yield first
            while guard.failure is None and not guard.done:
                chunk = await patience.read()
                out = PING if chunk is None else take(guard, patience, chunk)
                if out:
                    yield out
            if guard.failure is not None:
                raise guard.failure
            await patience.rest()
        except (Failure, Refusal) as failure:
            if guard.complete:
                return
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
        if guard.complete:
            patience.hurry()
    elif out:
        patience.comment()
    return out


async def first_events(guard: Guard, patience: Patience) -> bytes:
    """What a stream begins with. Raises ``Failure`` or ``Refusal`` for one that never was one."""
    while True:
        chunk = await patience.read() or b""
        out = take(guard, patience, chunk)
        if guard.failure is not None and not out:
            raise guard.failure
        if out and (guard.events or not chunk):
            return out
        if not chunk:
            raise nonsense(NOTHING)


class Late:
    """A stream that is begun with pings, since its first event, or even its head, is not there yet."""

    def __init__(self, opening: asyncio.Task[Answer], ping_interval: float) -> None:
        self.status = int(HTTPStatus.OK)
        self.headers = list(_HEADERS)
        self._opening = opening
        self._ping_interval = ping_interval

    async def chunks(self) -> AsyncIterator[bytes]:
        while not self._opening.done():
            yield PING
            await asyncio.wait((self._opening,), timeout=self._ping_interval or None)
        try:
            answer = self._opening.result()
        except Failure as failure:
            raise failure.error from failure
        if not isinstance(answer, Streaming):
            raise (answer.error if isinstance(answer, Ready) else None) or nonsense(MIXED_UP).error
        async for chunk in answer.chunks():
            yield chunk


async def in_time(opening: asyncio.Task[Answer], hold: float, ping_interval: float) -> Answer:
    """What ``opening`` gives; after ``hold`` seconds a stream that waits for it. Raises what it raises until then."""
    await asyncio.wait((opening,), timeout=hold)
    return opening.result() if opening.done() else Late(opening, ping_interval)


def abandon(opening: asyncio.Task[Answer]) -> None:
    """Nobody wants the answer any more, whatever has become of it."""
    if not opening.done():
        opening.cancel()
    elif not opening.cancelled():
        opening.exception()
