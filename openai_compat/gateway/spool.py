"""Where the body of an upload waits for its model: in memory while it is small, else in a file without a name.

Such a file can be opened by nobody else, and is gone with its handle, also when this process is killed.
"""

from __future__ import annotations

import asyncio
import errno
import os
import tempfile
import weakref
from collections.abc import AsyncIterator
from typing import Protocol

from openai_compat.errors import Unavailable

IN_MEMORY = 1 << 20
PIECE = 1 << 18
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Body(Protocol):
    """The bytes of a request, which can be read again from their start as often as it takes."""

    @property
    def size(self) -> int: ...

    def pieces(self) -> AsyncIterator[bytes]: ...


class Spool:
    """Counts what all uploads have on disk together: never more than ``quota`` bytes."""

    def __init__(self, quota: int) -> None:
        self._quota = quota
        self.used = 0

    def reserve(self, count: int) -> None:
        """Raises ``Unavailable`` where there is no room for ``count`` more bytes."""
        if self.used + count > self._quota:
            raise _full()
        self.used += count

    def release(self, count: int) -> None:
        self.used -= count


class _Nameless:
    """A file that is closed when nobody holds it any more: a thread may still be at it when its request is over."""

    def __init__(self) -> None:
        with tempfile.TemporaryFile(buffering=0) as file:
            self._handle = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._handle)

    def write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(self._handle, left) :]

    def read(self, count: int, place: int) -> bytes:
        return os.pread(self._handle, count, place)


class Spooled:
    """One upload. Written once, then read; ``close`` gives its room back, and is called however the request ends."""

    __slots__ = ("_file", "_spool", "_waiting", "_waits", "_written")

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._waiting: list[bytes] = []
        self._waits = 0
        self._file: _Nameless | None = None
        self._written = 0

    @property
    def size(self) -> int:
        return self._written + self._waits

    async def write(self, piece: bytes) -> None:
        """Raises ``Unavailable`` where neither quota nor disk has room."""
        self._waiting.append(piece)
        self._waits += len(piece)
        if self._waits >= IN_MEMORY:
            await self._flush()

    async def pieces(self) -> AsyncIterator[bytes]:
        """Everything from the start; two may read at the same time."""
        file, written, waiting = self._file, self._written, self._waiting
        place = 0
        while file is not None and place < written:
            piece = await asyncio.to_thread(file.read, min(PIECE, written - place), place)
            if not piece:
                raise OSError(errno.EIO, "a spooled upload is shorter than it was")
            place += len(piece)
            yield piece
        for piece in waiting:
            yield piece

    def close(self) -> None:
        self._spool.release(self._written)
        self._file = None
        self._written = self._waits = 0
        self._waiting = []

    async def _flush(self) -> None:
        data = b"".join(self._waiting)
        self._spool.reserve(len(data))
        self._written += len(data)
        self._waiting, self._waits = [], 0
        try:
            if self._file is None:
                self._file = await asyncio.to_thread(_Nameless)
            await asyncio.to_thread(self._file.write, data)
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise _full() from error
            raise


def _full() -> Unavailable:
    return Unavailable("The server holds too many uploads at once. Try again soon.", retry_after=5)
