"""The status socket: where each worker proves itself and then says how it fares.

The connection's end means that the worker is dead for the gateway, and the gateway for the worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from typing import Protocol

import msgspec

from openai_compat.protocol import Hello, Status, bind_private, decode_status

logger = logging.getLogger(__name__)
_HELLO_TIMEOUT = 10.0
_LONGEST_LINE = 4 * 1024 * 1024


class Listener(Protocol):
    """Who hears one worker."""

    def heard(self, message: Status) -> None:
        """One status line came."""

    def silent(self) -> None:
        """The connection ended; nothing comes any more."""


class StatusServer:
    """Accepts workers on ``path``; ``find`` gives the listener for a worker's id and token, once, or None."""

    def __init__(self, path: str, find: Callable[[str, str], Listener | None]) -> None:
        self._path = path
        self._find = find
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, sock=bind_private(self._path), limit=_LONGEST_LINE)

    async def close(self) -> None:
        """Stop accepting and hang up on everyone, which tells the workers to end."""
        if self._server is not None:
            self._server.close()
        for writer in tuple(self._connections):
            writer.close()
        with contextlib.suppress(OSError):
            os.unlink(self._path)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        listener: Listener | None = None
        try:
            listener = await self._meet(reader)
            if listener is not None:
                await _listen(reader, listener)
        except (OSError, ValueError, TimeoutError, msgspec.DecodeError) as error:
            logger.warning("a worker's status connection broke: %s", type(error).__name__)
        finally:
            self._connections.discard(writer)
            writer.close()
            if listener is not None:
                listener.silent()

    async def _meet(self, reader: asyncio.StreamReader) -> Listener | None:
        async with asyncio.timeout(_HELLO_TIMEOUT):
            line = await reader.readline()
        hello = decode_status(line) if line else None
        if not isinstance(hello, Hello):
            return None
        listener = self._find(hello.worker_id, hello.token)
        if listener is None:
            logger.warning("refused a stranger on the status socket")
            return None
        listener.heard(hello)
        return listener


async def _listen(reader: asyncio.StreamReader, listener: Listener) -> None:
    while line := await reader.readline():
        try:
            listener.heard(decode_status(line))
        except msgspec.DecodeError:
            logger.warning("a worker sent a status line that is none")
            return
