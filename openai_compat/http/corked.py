"""A transport that sends the head of an answer together with the first piece of its body, where both come at once."""

from __future__ import annotations

import asyncio

_HEAD = b"HTTP/1.1 "


class Corked:
    """Stands in the place of the ``transport`` that an answer is written to: one system call less, and one packet.

    A head waits for the rest of this turn of the event loop and no longer.
    """

    __slots__ = ("_flush", "_head", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""
        self._flush: asyncio.Handle | None = None

    def write(self, data: bytes) -> None:
        if self._flush is not None:
            data = self._uncorked() + data
        elif data.startswith(_HEAD):
            self._head = data
            self._flush = self._loop.call_soon(self.flush)
            return
        self._transport.write(data)

    def flush(self) -> None:
        """Send what waits."""
        if self._flush is not None:
            self._transport.write(self._uncorked())

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def _uncorked(self) -> bytes:
        head, self._head = self._head, b""
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        return head
