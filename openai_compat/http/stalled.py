"""Clients who take nothing of what waits for them, although it is too little for the transport to ask for a pause."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

INTERVAL = 5.0
"""Seconds between two looks at all connections."""


class Transport(Protocol):
    def get_write_buffer_size(self) -> int: ...
    def abort(self) -> None: ...


class Connection(Protocol):
    @property
    def transport(self) -> Transport: ...


class Stalled:
    """Remembers, from one look to the next, whose unsent bytes have not become fewer.

    Also a connection that is being closed stays open for ever while its client reads nothing.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._known: dict[Connection, tuple[int, float]] = {}

    def look(self, connections: Iterable[Connection], now: float) -> None:
        """Abort those who have taken nothing since ``patience`` seconds."""
        unsent: dict[Connection, tuple[int, float]] = {}
        for connection in tuple(connections):
            size = connection.transport.get_write_buffer_size()
            if not size:
                continue
            before, since = self._known.get(connection, (0, now))
            if size < before:
                since = now
            if now - since >= self._patience:
                connection.transport.abort()
            else:
                unsent[connection] = (size, since)
        self._known = unsent
