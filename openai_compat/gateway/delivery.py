"""The way of an answer from a replica to the client, the watch for the client's leaving, and the time that it all may take."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from litestar.types import Receive, Send

from openai_compat.errors import APIError, Cancelled, error_event
from openai_compat.gateway.replica import Headers
from openai_compat.http.delays import Delay
from openai_compat.http.departure import DEPARTURE, Departure

logger = logging.getLogger(__name__)
# Of one hop only, or said by the gateway itself.
_DROPPED = frozenset(
    {b"connection", b"date", b"keep-alive", b"proxy-authenticate", b"server", b"trailer", b"transfer-encoding", b"upgrade"}
)
_PRIVATE = (b"x-oc-", b"x-ratelimit-")  # between gateway and worker; about the target's limits, which are not the key's
_ENDS = (b"\n\n", b"\r\n\r\n")
_LAST = b"data: [DONE]\n\n"
_LONGEST_PART = 1 << 16  # bytes of an unfinished event that are held back


class Delivery:
    """One answer on its way. Of a stream of events only whole ones are sent (up to a size), so that a failure
    can follow as one more event. A stream ends with its ``[DONE]``, in one write with it: many clients leave as soon as they
    have read that.

    ``on_last`` is called when the last byte is about to leave: whoever has it may ask again before this task goes on.
    ``streams`` says, once it has started, whether it is one.
    ``ttfb``, the seconds from ``began`` (monotonic) to the first byte of the body, is left in ``state``.
    """

    __slots__ = ("_began", "_left", "_part", "_send", "_state", "_unfinished", "ended", "on_last", "started", "streams")

    def __init__(self, send: Send, state: dict[str, Any], began: float) -> None:
        self._send = send
        self._state = state
        self._began = began
        self.on_last: Callable[[], None] | None = None
        self.started = False
        self.streams = False
        self._part = b""
        self._left = -1  # bytes still to come of an answer that announced its length
        self.ended = False
        self._unfinished = False  # whether a too long event was sent in part

    def before_last(self, call: Callable[[], None]) -> None:
        """``call`` too, ahead of what is called then."""
        behind = self.on_last

        def both() -> None:
            call()
            if behind is not None:
                behind()

        self.on_last = both

    async def start(self, status: int, headers: Headers) -> None:
        kept = []
        for name, value in headers:
            lower = name.lower()
            if lower not in _DROPPED and not lower.startswith(_PRIVATE):
                kept.append((lower, value))
                if lower == b"content-type":
                    self.streams = value.startswith(b"text/event-stream")
                elif lower == b"content-length" and value.isdigit():
                    self._left = int(value)
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": kept})

    async def pass_on(self, chunk: bytes) -> None:
        if self.streams and (self._part or self._unfinished or not chunk.endswith(_ENDS)):
            chunk = self._whole_events(chunk)
        if chunk and not self.ended:
            if "ttfb" not in self._state:
                self._state["ttfb"] = time.monotonic() - self._began
            self._left -= len(chunk)
            last = self._left == 0 or (self.streams and chunk.endswith(_LAST))
            if last and self.on_last is not None:
                self.on_last()
            await self._send({"type": "http.response.body", "body": chunk, "more_body": not last})
            self.ended = last

    async def end(self) -> None:
        """Nothing more comes; an answer of announced length has ended with its last byte."""
        if not self.ended:
            if self.on_last is not None:
                self.on_last()
            await self._send({"type": "http.response.body", "body": self._part, "more_body": False})

    async def fail(self, error: APIError) -> None:
        """Say what happened in the way that is still possible. Raises ``error`` when nothing was sent yet."""
        if not self.started:
            raise error
        if self.ended:
            return
        if not self.streams:
            # Returning without the end of the body makes the server close the connection, which is what the client must see.
            logger.warning("an answer was broken off: %s", error.message)
            return
        gap = b"\n\n" if self._unfinished else b""
        await self._send({"type": "http.response.body", "body": gap + error_event(error), "more_body": False})

    def _whole_events(self, chunk: bytes) -> bytes:
        data = self._part + chunk
        cut = max(data.rfind(end) + len(end) if end in data else 0 for end in _ENDS)
        self._unfinished = len(data) - cut > _LONGEST_PART or (self._unfinished and not cut)
        if self._unfinished:
            cut = len(data)
        self._part = data[cut:]
        return data[:cut]


class ClientWatch:
    """Cancels the task that entered it when the client leaves before all was delivered, and turns that into ``Cancelled``.

    The server says so through ``state``, where it can (``http.guard``); else somebody waits at ``receive``.
    """

    __slots__ = ("_delivery", "_departure", "_ear", "_receive", "_task", "client_gone")

    def __init__(self, receive: Receive, state: dict[str, Any], delivery: Delivery) -> None:
        self._receive = receive
        self._delivery = delivery
        self._departure: Departure | None = state.get(DEPARTURE)
        self._task: asyncio.Task[Any] | None = None
        self._ear: asyncio.Task[None] | None = None
        self.client_gone = False

    async def __aenter__(self) -> ClientWatch:
        self._task = asyncio.current_task()
        if self._departure is None:
            self._ear = asyncio.get_running_loop().create_task(self._listen())
        else:
            self._departure.calls.append(self._left)
            if self._departure.over:
                self._left()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._ear is not None:
            self._ear.cancel()
        if self._departure is not None:
            self._departure.calls.remove(self._left)
        if self.client_gone and self._task is not None:
            self._task.uncancel()
            if kind is asyncio.CancelledError:
                await self._receive()  # at once; the layers around this one learn of it so
                raise Cancelled from error

    async def _listen(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._left()

    def _left(self) -> None:
        if self._delivery.ended:
            return
        self.client_gone = True
        if self._task is not None:
            self._task.cancel()


class Deadline:
    """Cancels the task that entered it when ``delay`` is over, and turns that into ``TimeoutError``.

    As ``asyncio.timeout``, for one task and one use: that takes as much of a request's time as reading its body.
    """

    __slots__ = ("_cancelling", "_delay", "_over", "_task")

    def __init__(self, delay: Delay) -> None:
        self._delay = delay
        self._over = False

    def __enter__(self) -> None:
        self._task: asyncio.Task[Any] | None = asyncio.current_task()
        self._cancelling = 0 if self._task is None else self._task.cancelling()
        self._delay.begin(self)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._delay.end(self)
        if self._over and self._task is not None:
            alone = self._task.uncancel() <= self._cancelling
            if alone and kind is asyncio.CancelledError:
                raise TimeoutError from error

    def over(self) -> None:
        self._over = True
        if self._task is not None:
            self._task.cancel()
