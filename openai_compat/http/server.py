"""Running applications on listeners until a signal ends it."""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
import time
from collections.abc import Callable
from types import FrameType

import uvicorn
from litestar.types import ASGIApp
from msgspec import Struct

from openai_compat.http.gate import Gate
from openai_compat.http.guard import GuardedProtocol
from openai_compat.http.hangup import Hangup
from openai_compat.http.lingering import hurry
from openai_compat.http.listening import BACKLOG, ListenError, base_url, listen, url_of
from openai_compat.http.stalled import INTERVAL, Stalled
from openai_compat.http.tls import HANDSHAKE_TIME

__all__ = ["Door", "ListenError", "base_url", "listen", "run", "uvicorn_config", "url_of"]
_KEEP_ALIVE = 75
"""Seconds; longer than the pools of the usual clients and proxies keep a connection, so that they are the ones to close it."""
_LAST = 0.2  # seconds in which those are answered who came before the listeners were closed
_CLOSE = (b"connection", b"close")
_ACCEPTED = 8
"""Connections that are taken in one step of the event loop, which takes one of each listener: the same socket under so many
numbers. New clients would wait for seconds where steps are long."""
_MOMENT = 0.1  # seconds between two looks whether a shutdown in a hurry waits for anybody


class Door(Struct, frozen=True, kw_only=True):
    """An application, where it listens, what with where that is encrypted, and who decides where not everybody is let in."""

    app: ASGIApp
    listener: socket.socket
    tls: ssl.SSLContext | None = None
    gate: Gate | None = None


def nothing() -> None:
    """For handles that nobody holds."""


class Handles(Struct, frozen=True, kw_only=True):
    """What is called on the event loop when requests are answered (``ready``), when the server begins to end (``drain``), and
    at SIGHUP (``hangup``).
    """

    ready: Callable[[], None] = nothing
    drain: Callable[[], None] = nothing
    hangup: Callable[[], None] = nothing


def run(
    app: ASGIApp,
    listener: socket.socket,
    *,
    grace: float,
    on_ready: Callable[[], None],
) -> None:
    """Serve one application; see ``run_doors``."""
    hangup = Hangup()
    with hangup.heeded():
        run_doors([Door(app=app, listener=listener)], Handles(ready=on_ready), hangup, grace=grace)


def run_doors(doors: list[Door], handles: Handles, hangup: Hangup, *, grace: float, drain_delay: float = 0.0) -> None:
    """Serve until SIGINT or SIGTERM; then finish what runs, for ``grace`` seconds at most. A second signal ends at once.

    The first door's application has a lifespan. ``drain_delay`` seconds after the signal new connections are still taken.
    """
    # uvicorn raises the signal again when it has finished: that is to end this function, and not the process.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    server = Server(doors, handles, hangup, grace, drain_delay)
    try:
        server.run(sockets=[door.listener for door in doors])
    except KeyboardInterrupt:
        return


def uvicorn_config(app: ASGIApp, *, grace: float, protocol: type[GuardedProtocol] = GuardedProtocol) -> uvicorn.Config:
    """How uvicorn runs here: no header of a proxy is believed, and logging is left alone."""
    return uvicorn.Config(
        app,
        interface="asgi3",  # told, since uvicorn guesses by how the application is written
        http=protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=max(1, round(grace)),
    )


class Server(uvicorn.Server):
    """Several doors into one process, which end together."""

    def __init__(self, doors: list[Door], handles: Handles, hangup: Hangup, grace: float, drain_delay: float) -> None:
        super().__init__(uvicorn_config(doors[0].app, grace=grace))
        self._doors = doors
        self._handles = handles
        self._hangup = hangup
        self._grace = grace
        self._drain_delay = drain_delay
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stalled = Stalled(GuardedProtocol.limits.write_stall)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([])  # the application; the doors are opened here, since uvicorn has one application only
        if not self.started:
            return
        self._loop = asyncio.get_running_loop()
        for door in self._doors:
            self.servers += await self._open(door)
        self._handles.ready()
        self._hangup.call(self._hung_up)

    async def _open(self, door: Door) -> list[asyncio.Server]:
        config = uvicorn_config(door.app, grace=self._grace)
        config.load()
        make = GuardedProtocol if door.gate is None else door.gate.protocol

        def protocol() -> asyncio.Protocol:
            return make(config, self.server_state, self.lifespan.state)

        loop = asyncio.get_running_loop()
        handshake = None if door.tls is None else HANDSHAKE_TIME
        if door.listener.family is socket.AF_UNIX:
            return [await loop.create_unix_server(protocol, sock=door.listener, backlog=BACKLOG)]
        return [
            await loop.create_server(protocol, sock=same, backlog=BACKLOG, ssl=door.tls, ssl_handshake_timeout=handshake)
            for same in (door.listener, *(door.listener.dup() for _ in range(_ACCEPTED - 1)))
        ]

    async def on_tick(self, counter: int) -> bool:
        if counter % round(INTERVAL / _MOMENT) == 0:
            self._stalled.look(self.server_state.connections, time.monotonic())
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            self.force_exit = True
        super().handle_exit(sig, frame)
        if self.force_exit:
            asyncio.get_running_loop().call_soon_threadsafe(hurry)

    def _hung_up(self, lost: bool, frame: FrameType | None) -> None:
        """``lost``: the terminal is, and nobody is there to serve."""
        if lost and not self.should_exit:
            self.handle_exit(signal.SIGTERM, frame)
        elif self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._handles.hangup)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """In a hurry uvicorn would leave running requests to the loop's end and the application's own end out."""
        self._handles.drain()
        await self._go_on(self._drain_delay)
        for door in self._doors:
            door.listener.listen(0)  # whoever waits there already is let in, and not cut off as the listener is closed
        await self._go_on(_LAST)
        await super().shutdown(sockets)
        if self.force_exit:
            for task in self.server_state.tasks:
                task.cancel()
            ending = asyncio.ensure_future(self.lifespan.shutdown())
            while not ending.done():
                await asyncio.wait({ending}, timeout=_MOMENT)
                hurry()
            ending.result()

    async def _go_on(self, seconds: float) -> None:
        """Go on, until whoever sends requests has learnt that they are to be sent elsewhere.

        Each answer ends its connection: else a request could be sent in the moment in which the connection is closed.
        """
        for count in range(round(seconds / _MOMENT)):
            if self.force_exit:
                return
            await self.on_tick(count)
            if _CLOSE not in self.server_state.default_headers:
                self.server_state.default_headers = [*self.server_state.default_headers, _CLOSE]
            await asyncio.sleep(_MOMENT)
