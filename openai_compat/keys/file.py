"""Where keys are kept: the SQLite file of the server with this configuration, whether that runs or not.

Each process has a connection of its own, and SQLite's locks keep them apart; the folder's lock says only whose results are in
it.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from openai_compat.config import Config, ConfigError
from openai_compat.gateway.store.database import Database
from openai_compat.gateway.store.place import DATABASE, folder_of
from openai_compat.keys import table
from openai_compat.keys.making import make_file
from openai_compat.keys.record import StoredKey

T = TypeVar("T")
LOST = "; API keys may be kept there, so that no server starts without it"
NO_PLACE = "server.port is 0, so that there is no place for keys that lasts: set storage.dir"


class News(Struct, frozen=True):
    """Keys whose rights have changed; ``whole`` where they are all that there are, since the file is another one."""

    keys: list[StoredKey]
    whole: bool


class KeyFile:
    """Opened by the first ``run``, which makes it, or by the first ``news`` once it is there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._database: Database | None = None
        self._file: tuple[int, int] | None = None  # device and inode of what is open
        self._seen = -1  # SQLite's own count of others' changes
        self._version = 0
        self._whole = True
        self._opening = asyncio.Lock()

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """In a transaction. Raises ``ConfigError`` where the file cannot be used."""
        return await (await self._opened()).run(work)

    async def look(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """Read; ``otherwise`` where there is no file, which then is not made."""
        if self._database is None and _identity(self.path) is None:
            return otherwise
        return await (await self._opened()).look(work)

    async def news(self, *, ours: bool = False) -> News | None:
        """What has changed since the last call: by other processes, with ``ours`` also by this one. None where nothing has.

        Raises ``ConfigError`` and ``sqlite3.Error`` where that cannot be found out.
        """
        identity = _identity(self.path)
        if identity is None and self._database is None:
            return None
        if identity is not None and identity != self._file:
            await self.close()  # an older copy was put in its place, perhaps
        return await (await self._opened()).look(lambda connection: self._read(connection, ours))

    async def close(self) -> None:
        if self._database is not None:
            await self._database.close()
            self._database = None

    async def _opened(self) -> Database:
        async with self._opening:
            if self._database is None:
                self._database = await self._open()
                self._file = _identity(self.path)
                self._seen, self._version, self._whole = -1, 0, True
            return self._database

    async def _open(self) -> Database:
        try:
            make_file(self.path)
            database = Database(self.path)
            await database.open()
        except OSError as error:
            raise ConfigError(f"{self.path} cannot be used: {error.strerror}") from error
        return database

    def _read(self, connection: sqlite3.Connection, ours: bool) -> News | None:
        (seen,) = connection.execute("PRAGMA data_version").fetchone()
        if seen == self._seen and not ours:
            return None
        newest = table.version(connection)
        whole = self._whole or newest < self._version  # smaller where an older copy was put back
        keys = table.changed_since(connection, 0 if whole else self._version)
        # Kept once everything is read, so that what fails is read again.
        self._seen, self._whole = seen, False
        self._version = max((key.version for key in keys), default=0 if whole else self._version)
        return News(keys, whole) if keys or whole else None


def key_path(config: Config) -> Path:
    """Raises ``ConfigError`` where keys cannot be kept."""
    folder = folder_of(config)
    if folder is None:
        raise ConfigError(NO_PLACE)
    return folder / DATABASE


def has_usable_key(config: Config) -> bool:
    """Whether a key that is kept opens anything, at this moment. Raises ``ConfigError`` where that cannot be found out."""
    try:
        path = key_path(config)
    except ConfigError:
        return False
    if _identity(path) is None:
        return False
    statement = "SELECT 1 FROM keys WHERE revoked IS NULL AND (expires IS NULL OR expires > ?) LIMIT 1"
    try:
        connection = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True)
        try:
            known = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'keys'").fetchone()
            return bool(known and connection.execute(statement, (int(time.time()),)).fetchone())
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise ConfigError(f"{path} cannot be used: {error}{LOST}") from error


def _identity(path: Path) -> tuple[int, int] | None:
    """None where there is no file. Raises ``ConfigError`` where nobody can tell: it may be another user's."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path} cannot be used: {error.strerror}") from error
    return found.st_dev, found.st_ino
