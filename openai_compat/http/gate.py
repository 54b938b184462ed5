"""The protocol of a door at which not everybody is let in."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from litestar.types import ASGIApp
from uvicorn.config import Config
from uvicorn.server import ServerState

from openai_compat.errors import Unavailable
from openai_compat.http.crowd import Crowd
from openai_compat.http.delays import Delay
from openai_compat.http.guard import GuardedProtocol
from openai_compat.http.raw import raw_answer
from openai_compat.http.request_id import new_request_id

_PLAIN = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
"""They cost little, and whoever watches the server is to be answered as long as it can answer at all."""
_BUSY = Unavailable("The server has too much to do. Try again soon.", code="overloaded", retry_after=1)
_PLACE = "the-id"
_BEFORE, _, _BEHIND = raw_answer(_BUSY, _PLACE, last=False).partition(_PLACE.encode())
_PAUSE = 0.03
"""Seconds in which nothing is read from a connection whose request was turned away. Whoever asks again at once is answered that
much later, and the time that it would take to say so again and again is left for those who were let in."""
_AT_ONCE = 0.01  # seconds after such a pause: what comes then has waited all the while
_CHANCE = 32
"""Of so many refusals in a row one, each second, has no pause behind it: what comes next has not waited."""
_LOOKS = 0.5  # seconds between two looks for connections that rest
_LINGER = 0.5
"""Seconds in which a client that is turned away may read why; closed at once, a connection takes back what it was told."""


class Gate:
    """Makes the protocol of each connection at one door.

    Where there is no room for another, those are closed that were kept for ``rest`` seconds and asked nothing: pools of clients
    keep a thousand, and whoever is turned away finds room when it comes again.
    """

    def __init__(self, crowd: Crowd, app: ASGIApp, *, rest: float = 5.0) -> None:
        self.crowd = crowd
        self.app = crowd.around(app)
        self.pause = Delay(_PAUSE)
        self._rest = rest
        self._looked = float("-inf")

    def protocol(self, config: Config, server_state: ServerState, app_state: dict[str, Any]) -> asyncio.Protocol:
        if self.crowd.full():
            self._make_room(server_state)
            return TurnedAway()
        return GatedProtocol(self, config, server_state, app_state)

    def _make_room(self, server_state: ServerState) -> None:
        """Looking at thousands takes a millisecond, so it is done now and then."""
        now = time.monotonic()
        if now - self._looked < _LOOKS:
            return
        self._looked = now
        for connection in tuple(server_state.connections):
            if isinstance(connection, GatedProtocol) and connection.rested > self._rest:
                connection.transport.close()


class GatedProtocol(GuardedProtocol):
    """Turns requests away before their body is read, and without a task for them."""

    __slots__ = ("_gate", "_resumed", "_turned_away")

    def __init__(self, gate: Gate, config: Config, server_state: ServerState, app_state: dict[str, Any]) -> None:
        super().__init__(config, server_state, app_state)
        self._gate = gate
        self._resumed = float("-inf")
        self._turned_away = 0  # times in a row

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._gate.crowd.arrive()
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._gate.crowd.leave()
        self._gate.pause.end(self)
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if cycle.scope["method"] in _PLAIN:
            super()._start_asgi_task(cycle, app)
        elif why := self._gate.crowd.objection(late=self._is_late()):
            self._gate.crowd.refuse(why)
            self._turn_away(cycle)
        else:
            self._turned_away = 0
            super()._start_asgi_task(cycle, self._gate.app)  # type: ignore[arg-type]

    def _is_late(self) -> bool:
        return self.loop.time() - self._resumed < _AT_ONCE

    def _turn_away(self, cycle: Any) -> None:
        self._turned_away += 1
        self._corked.flush()
        self.transport.write(_BEFORE + new_request_id().encode() + _BEHIND)
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        if cycle.keep_alive:
            self.on_response_complete()
            self._pause()
        else:
            self.transport.close()

    def _pause(self) -> None:
        if self._turned_away % _CHANCE == 0:
            self._resumed = float("-inf")
        elif not self.transport.is_closing() and not self._answering():
            self.flow.pause_reading()
            self._gate.pause.begin(self)

    def over(self) -> None:
        """The pause is."""
        if not self.transport.is_closing():
            self._resumed = self.loop.time()
            self.flow.resume_reading()


class TurnedAway(asyncio.Protocol):
    """A connection too many: it is told so, and closed."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        transport.write(raw_answer(_BUSY, new_request_id()))
        if transport.can_write_eof():
            transport.write_eof()
            self._end = asyncio.get_running_loop().call_later(_LINGER, transport.abort)
        else:
            transport.close()

    def data_received(self, data: bytes) -> None:
        self._transport.close()
