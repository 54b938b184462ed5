"""Running an application on a TCP port until a signal ends it."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from litestar.types import ASGIApp

from openai_compat.http.guard import GuardedProtocol
from openai_compat.http.lingering import hurry

_BACKLOG = 2048
_KEEP_ALIVE = 75
"""Seconds; longer than the pools of the usual clients and proxies keep a connection, so that they are the ones to close it."""
_MOMENT = 0.1  # seconds between two looks whether a shutdown in a hurry waits for anybody
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class ListenError(Exception):
    """The address cannot be listened on; the message is one line for the person who started the server."""


def listen(host: str, port: int) -> socket.socket:
    """Bind and listen. Port 0 takes any free one. Raises ``ListenError``."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError):
        raise ListenError(f"Cannot listen on '{host}': there is no such host name or address.") from None
    listener = socket.socket(family, kind, proto)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ListenError(_reason(error, host, port)) from None
    return listener


def base_url(listener: socket.socket) -> str:
    """Where a client on this machine finds the API."""
    host, port = listener.getsockname()[:2]
    return url_of(host, port)


def url_of(host: str, port: int) -> str:
    """The API's address on a server that listens on ``host``; "all addresses" is this machine's own."""
    host = _WILDCARDS.get(host, host)
    return f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"


def run(app: ASGIApp, listener: socket.socket, *, grace: float, on_ready: Callable[[], None]) -> None:
    """Serve until SIGINT or SIGTERM; then finish what runs, for ``grace`` seconds at most. A second SIGINT ends at once.

    ``on_ready`` is called once requests are answered.
    """
    # uvicorn raises the signal again when it has finished: that is to end this function, and not the process.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _Server(uvicorn_config(app, grace=grace), on_ready).run(sockets=[listener])
    except KeyboardInterrupt:
        return


def uvicorn_config(app: ASGIApp, *, grace: float, protocol: type[GuardedProtocol] = GuardedProtocol) -> uvicorn.Config:
    """How uvicorn runs here: no header of a proxy is believed, and logging is left alone."""
    return uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=max(1, round(grace)),
    )


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        if self.force_exit:
            asyncio.get_running_loop().call_soon_threadsafe(hurry)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """In a hurry uvicorn would leave running requests to the loop's end and the application's own end out."""
        await super().shutdown(sockets)
        if self.force_exit:
            for task in self.server_state.tasks:
                task.cancel()
            ending = asyncio.ensure_future(self.lifespan.shutdown())
            while not ending.done():
                await asyncio.wait({ending}, timeout=_MOMENT)
                hurry()
            ending.result()


def _reason(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} on {host} is in use. Choose another with --port or PORT."
    if error.errno == errno.EACCES:
        return f"Port {port} may not be listened on by this user. Choose one above 1023."
    return f"Cannot listen on {host}, port {port}: {os.strerror(error.errno or 0).lower()}."
