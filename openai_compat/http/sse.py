"""The one way out for server-sent events.

``sse`` is for token streams. It starts from what sse-starlette's ``EventSourceResponse`` does (pings, client gone, shutdown)
and adds what an OpenAI client needs: nothing is answered before the first event is there, so an early failure has its own
status. ``event_source`` is sse-starlette itself, for streams of a few events a minute.

``benchmarks/sse_cost.py`` compares them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import anyio
from litestar import Request, Response
from litestar.types import ASGIApp, Receive, Scope, Send
from msgspec import Struct
from sse_starlette import EventSourceResponse, ServerSentEvent

from openai_compat.errors import APIError, error_event
from openai_compat.http.disconnect import gone

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 0.01
PING = b": ping\n\n"
_FAREWELL = 2.0  # seconds that a stream of few events has to end when the server does
MEDIA_TYPE = "text/event-stream; charset=utf-8"
HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


class StreamTiming(Struct, frozen=True, kw_only=True):
    """Seconds until an answer is begun without its first event, and seconds of silence before each ping (0: no pings)."""

    first_byte_timeout: float = 5.0
    ping_interval: float = 15.0


class EventStream(Response[None]):
    """Framed events as a litestar response; return it from any handler annotated with ``Response``."""

    def __init__(self, events: AsyncIterator[bytes], timing: StreamTiming, headers: dict[str, str]) -> None:
        super().__init__(content=None, media_type=MEDIA_TYPE, headers={**HEADERS, **headers})
        self.events = events
        self.timing = timing

    def to_asgi_response(self, app: Any, request: Request[Any, Any, Any], **options: Any) -> ASGIApp:  # type: ignore[override]
        """The route's own headers are kept; its status is not, since a stream that begins is a 200."""
        headers = {**(options.get("headers") or {}), **self.headers, "content-type": MEDIA_TYPE}
        encoded = [(name.lower().encode("latin-1"), str(value).encode("latin-1")) for name, value in headers.items()]
        return _Delivery(self.events, self.timing, encoded)


class _Delivery:
    """One stream on its way: a pump, a heart that beats when the pump is silent, and an ear for the client leaving."""

    def __init__(self, events: AsyncIterator[bytes], timing: StreamTiming, headers: list[tuple[bytes, bytes]]) -> None:
        self._events = events
        self._timing = timing
        self._headers = headers
        self._started = False
        self._clock = asyncio.get_running_loop().time
        self._last_write = self._clock()
        self._writing: asyncio.Event | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises the typed error of a stream that failed before it began."""
        pump = asyncio.ensure_future(self._pump(send))
        ear = asyncio.ensure_future(gone(receive))
        heart = asyncio.ensure_future(self._beat(send))
        try:
            await asyncio.wait({pump, ear}, return_when=asyncio.FIRST_COMPLETED)
            if pump.done():
                pump.result()
        finally:
            await _end(pump, ear, heart)
            await _close(self._events)

    async def _pump(self, send: Send) -> None:
        """Events that are all there already would keep the loop, and the ear, from their turn: hence the pauses."""
        paused = self._last_write
        try:
            async for event in self._events:
                await self._write(send, event)
                if self._last_write - paused > PAUSE_SECONDS:
                    await asyncio.sleep(0)
                    paused = self._last_write
        except Exception as error:
            if not self._started:
                raise
            if not isinstance(error, APIError):
                logger.exception("a stream failed after it began")
            await self._write(send, error_event(error))
        await self._write(send, b"", more=False)

    async def _write(self, send: Send, body: bytes, *, more: bool = True) -> None:
        """One write; pump and heart take turns, without the price of a lock as long as they do not meet."""
        while self._writing is not None:
            await self._writing.wait()
        self._writing = turn = asyncio.Event()
        if not self._started:
            self._started = True
            await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        await send({"type": "http.response.body", "body": body, "more_body": more})
        self._last_write = self._clock()
        self._writing = None
        turn.set()

    async def _beat(self, send: Send) -> None:
        """Begin the answer when its first event is late; then break every silence of ``ping_interval``."""
        while True:
            patience = self._timing.ping_interval if self._started else self._timing.first_byte_timeout
            if self._started and not patience:
                return
            silence = self._clock() - self._last_write
            if silence < patience:
                often = self._timing.ping_interval or patience  # it may begin meanwhile
                await asyncio.sleep(min(patience - silence, often))
            elif self._writing is not None:
                await asyncio.sleep(patience)
            else:
                await self._write(send, PING)


async def _end(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()


async def _close(events: AsyncIterator[Any]) -> None:
    """An iterator that stands at a ``yield`` is told that nobody will ask again."""
    close = getattr(events, "aclose", None)
    if close is not None:
        with suppress(Exception):
            await close()


async def sse(
    events: AsyncIterator[bytes], *, timing: StreamTiming | None = None, headers: dict[str, str] | None = None
) -> EventStream:
    """Answer with ``events``, each already framed (``data: …`` and an empty line; several may come as one).

    Nothing goes out before the first event: an error raised until then is the answer's own status, a later one an event in
    OpenAI's shape. When the client leaves, ``events`` is cancelled where it waits, or closed where it stands.
    """
    return EventStream(events, timing or StreamTiming(), headers or {})


def event_source(events: AsyncIterator[ServerSentEvent], *, timing: StreamTiming | None = None) -> EventSourceResponse:
    """sse-starlette's response, for streams of few events. The handler must be annotated to return ``EventSourceResponse``.

    When the server is to end, so does the stream, complete.
    """
    interval = (timing or StreamTiming()).ping_interval
    ending = anyio.Event()
    return EventSourceResponse(
        _until(events, ending),
        ping=interval,
        headers={"Cache-Control": "no-cache"},
        shutdown_event=ending,
        shutdown_grace_period=_FAREWELL,
    )


async def _until(events: AsyncIterator[ServerSentEvent], ending: anyio.Event) -> AsyncIterator[ServerSentEvent]:
    """``events`` until ``ending`` is set. Left early, they are cancelled where they wait or closed where they stand."""
    end = asyncio.ensure_future(ending.wait())
    turn: asyncio.Future[ServerSentEvent | None] | None = None
    try:
        while not end.done():
            turn = asyncio.ensure_future(_next(events))
            await asyncio.wait({turn, end}, return_when=asyncio.FIRST_COMPLETED)
            if not turn.done() or (event := turn.result()) is None:
                break
            yield event
    finally:
        end.cancel()
        if turn is not None and not turn.done():
            turn.cancel()
        else:
            await _close(events)


async def _next(events: AsyncIterator[ServerSentEvent]) -> ServerSentEvent | None:
    return await anext(events, None)
