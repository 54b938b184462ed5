"""Files with names of our own making, none of which can be guessed, within a quota.

A file counts from its first byte on. Where there is no room, those that would expire first go earlier, with the objects that
they belong to; files without a time of expiry are in use and stay.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import secrets
import sqlite3
import time
import weakref
from collections.abc import AsyncIterator
from pathlib import Path

from msgspec import Struct

from openai_compat.errors import NotFound
from openai_compat.gateway.store.database import Database, full

PIECE = 1 << 18
_TOKEN = 32  # bytes of chance in a name
_OURS = re.compile(r"[A-Za-z0-9_-]{43}\.[a-z0-9]+")
"""Names of this folder's files; a configured folder may hold others, which are somebody's."""
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Media(Struct, frozen=True):
    """A file of the folder; ``type`` is its media type."""

    name: str
    object: str | None
    owner: str
    type: str
    size: int
    created: int
    expires: int | None


class MediaFolder:
    """Opened with ``begin``; ``quota`` is bytes of all files together."""

    def __init__(self, path: Path, database: Database, quota: int) -> None:
        self._path = path
        self._database = database
        self._quota = quota
        self._making_room = asyncio.Lock()
        self.used = 0

    async def begin(self) -> None:
        """Make the folder, remove files that a killed server left half written, and count the others."""
        known = await self._database.run(lambda connection: dict(connection.execute("SELECT name, size FROM media").fetchall()))
        await asyncio.to_thread(self._clear, frozenset(known))
        self.used = sum(known.values())

    def writer(self, extension: str, *, type: str, owner: str, object: str | None = None) -> MediaWriter:
        """For a new file, which is there once it is finished."""
        name = secrets.token_urlsafe(_TOKEN) + extension
        return MediaWriter(self, self._path / name, Media(name, object, owner, type, 0, int(time.time()), None))

    async def put(
        self, data: bytes, extension: str, *, type: str, owner: str, expires: int | None = None, object: str | None = None
    ) -> Media:
        """A whole file. Raises ``Unavailable`` where there is no room."""
        writer = self.writer(extension, type=type, owner=owner, object=object)
        try:
            await writer.write(data)
            return await writer.finish(expires)
        except BaseException:
            await writer.discard()
            raise

    async def find(self, name: str) -> Media:
        """A file that belongs to no object. Raises ``NotFound`` where there is none, or not any more."""
        found = await self._select("WHERE name = ? AND object IS NULL AND expires > ?", name, int(time.time()))
        if not found:
            raise gone()
        return found[0]

    async def named(self, name: str) -> Media:
        """Any file, by a name that came from an object. Raises ``NotFound``."""
        found = await self._select("WHERE name = ?", name)
        if not found:
            raise gone()
        return found[0]

    async def of_object(self, id: str) -> tuple[Media, ...]:
        return await self._select("WHERE object = ? ORDER BY created, name", id)

    async def open(self, media: Media) -> OpenFile:
        """Its bytes, which stay readable while they are read even where the file is removed. Raises ``NotFound``."""
        try:
            return await asyncio.to_thread(OpenFile, self._path / media.name, media.size)
        except FileNotFoundError:
            raise gone() from None

    async def remove_object(self, id: str) -> None:
        """The object and its files, or nothing where it is gone."""
        await self._delete(("DELETE FROM media WHERE object = ? RETURNING name, size", "DELETE FROM objects WHERE id = ?"), id)

    async def remove_files(self, id: str) -> None:
        """The files of an object, which stays."""
        await self._delete(("DELETE FROM media WHERE object = ? RETURNING name, size",), id)

    async def remove(self, media: Media) -> None:
        """One file; its object stays."""
        await self._delete(("DELETE FROM media WHERE name = ? RETURNING name, size",), media.name)

    async def expire(self) -> None:
        """Remove whatever has had its time."""
        of_objects = "DELETE FROM media WHERE object IN (SELECT id FROM objects WHERE expires <= ?) RETURNING name, size"
        alone = "DELETE FROM media WHERE expires <= ? RETURNING name, size"
        await self._delete((of_objects, "DELETE FROM objects WHERE expires <= ?", alone), int(time.time()))

    # ------------------------------------------------------------ for writers

    async def reserve(self, count: int) -> None:
        """Raises ``Unavailable`` where no room can be made."""
        async with self._making_room:
            if self.used + count > self._quota and not await self._make_room(count):
                raise full()
            self.used += count

    def release(self, count: int) -> None:
        self.used -= count

    async def add(self, media: Media) -> None:
        """Raises ``NotFound`` where the object that it belongs to was removed meanwhile."""
        values = (media.name, media.object, media.owner, media.type, media.size, media.created, media.expires)
        try:
            await self._database.run(
                lambda connection: connection.execute("INSERT INTO media VALUES (?, ?, ?, ?, ?, ?, ?)", values)
            )
        except sqlite3.IntegrityError:
            raise gone() from None

    # ------------------------------------------------------------ the rest

    async def _make_room(self, count: int) -> bool:
        """Remove what would expire first, as much as it takes and no more; nothing where that is not enough."""
        missing, victims = self.used + count - self._quota, []
        for media in await self._select("WHERE expires IS NOT NULL ORDER BY expires, created"):
            victims.append(media)
            missing -= media.size
            if missing <= 0:
                break
        if missing > 0:
            return False
        for media in victims:
            await (self.remove(media) if media.object is None else self.remove_object(media.object))
        return True

    async def _delete(self, statements: tuple[str, ...], value: object) -> None:
        """Rows in one transaction, then the files of those that a statement returns."""

        def work(connection: sqlite3.Connection) -> list[tuple[str, int]]:
            return [row for statement in statements for row in connection.execute(statement, (value,)).fetchall()]

        for name, size in await self._database.run(work):
            await asyncio.to_thread((self._path / name).unlink, missing_ok=True)
            self.used -= size

    async def _select(self, rest: str, *values: object) -> tuple[Media, ...]:
        statement = f"SELECT name, object, owner, type, size, created, expires FROM media {rest}"  # noqa: S608
        return await self._database.run(lambda connection: tuple(Media(*row) for row in connection.execute(statement, values)))

    def _clear(self, known: frozenset[str]) -> None:
        self._path.mkdir(mode=0o700, exist_ok=True)
        for entry in self._path.iterdir():
            if entry.name not in known and _OURS.fullmatch(entry.name):
                entry.unlink(missing_ok=True)


class MediaWriter:
    """One new file. Whoever has it calls ``finish`` or ``discard``."""

    def __init__(self, folder: MediaFolder, path: Path, media: Media) -> None:
        self._folder = folder
        self._path = path
        self._media = media
        self._handle: int | None = None
        self._written = 0

    @property
    def written(self) -> int:
        """Bytes so far."""
        return self._written

    async def write(self, piece: bytes) -> None:
        """Raises ``Unavailable`` where neither quota nor disk has room."""
        await self._folder.reserve(len(piece))
        self._written += len(piece)
        try:
            await asyncio.to_thread(self._write, piece)
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise full() from error
            raise

    async def finish(self, expires: int | None = None) -> Media:
        """The file is there from now on."""
        self._close()
        media = self._media
        done = Media(media.name, media.object, media.owner, media.type, self._written, media.created, expires)
        await self._folder.add(done)
        return done

    async def discard(self) -> None:
        """Give up what is there of it."""
        self._close()
        self._folder.release(self._written)
        self._written = 0
        await asyncio.to_thread(self._path.unlink, missing_ok=True)

    def _write(self, piece: bytes) -> None:
        if self._handle is None:
            self._handle = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        left = memoryview(piece)
        while left:
            left = left[os.write(self._handle, left) :]

    def _close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


class OpenFile:
    """A file that is being read."""

    def __init__(self, path: Path, size: int) -> None:
        self.size = size
        self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        self._close = weakref.finalize(self, os.close, self._handle)

    async def pieces(self, places: range | None = None) -> AsyncIterator[bytes]:
        """The bytes at these places; everything where they are None."""
        place, stop = (0, self.size) if places is None else (places.start, places.stop)
        while place < stop and (piece := await asyncio.to_thread(os.pread, self._handle, min(PIECE, stop - place), place)):
            place += len(piece)
            yield piece

    async def read(self) -> bytes:
        return b"".join([piece async for piece in self.pieces()])

    def close(self) -> None:
        self._close()


def gone() -> NotFound:
    """What a client reads of a file that was never there, or is not any more."""
    return NotFound("There is no such file, or it has expired.")
