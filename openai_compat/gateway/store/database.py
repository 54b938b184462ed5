"""One SQLite file, used from one thread, so that the event loop never waits for the disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from openai_compat.config import ConfigError
from openai_compat.errors import Unavailable
from openai_compat.gateway.store.schema import MIGRATIONS

T = TypeVar("T")
Migrations = Sequence[Sequence[str]]
_PATIENCE = 5.0  # seconds that a statement waits for another process, such as a backup
_MOMENT = 0.01  # seconds between two tries


class Busy(Unavailable, sqlite3.OperationalError):
    """Another program keeps the file to itself. For whoever is ready for SQLite's errors it is one of these."""


class Database:
    """Runs functions of a connection, each in a transaction of its own, one after the other."""

    def __init__(self, path: Path, migrations: Migrations = MIGRATIONS) -> None:
        self._path = path
        self._migrations = migrations
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="database")
        self._connection: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Make the file, or bring an older one up to date.

        Raises ``ConfigError`` for one that a newer server has written, and for one that is damaged.
        """
        try:
            await self._apart(self._connect)
        except sqlite3.DatabaseError as error:
            await self.close()
            raise ConfigError(f"{self._path} cannot be used: {error}") from error
        except BaseException:
            await self.close()
            raise

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What ``work`` returns, after its changes are written. Raises ``Unavailable``: disk full, file locked."""
        return await self._apart(lambda: self._transact(work))

    async def look(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What ``work`` returns, which changes nothing and needs no lock."""
        return await self._apart(lambda: work(self._opened))

    async def close(self) -> None:
        if self._connection is not None:
            await self._apart(self._connection.close)
            self._connection = None
        self._thread.shutdown(wait=False)

    async def _apart(self, work: Callable[[], T]) -> T:
        """On the database's thread, and to its end even where nobody waits for it any more."""
        doing = asyncio.get_running_loop().run_in_executor(self._thread, work)
        doing.add_done_callback(_seen)
        return await asyncio.shield(doing)

    def _connect(self) -> None:
        # Never opened where it is there: closing it would take the locks away that another connection of this process has.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        self._connection = sqlite3.connect(self._path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
        _write_ahead(self._connection)
        for pragma in ("synchronous = NORMAL", "foreign_keys = ON"):
            self._connection.execute(f"PRAGMA {pragma}")
        version = _version(self._connection)
        if version > len(self._migrations):
            raise ConfigError(f"{self._path.name} in {self._path.parent} was written by a newer version of this server")
        for number in range(version, len(self._migrations)):
            self._transact(partial(self._migrate, number))

    def _migrate(self, number: int, connection: sqlite3.Connection) -> None:
        if _version(connection) > number:  # another process that opens the file has just done it
            return
        for statement in self._migrations[number]:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {number + 1}")

    @property
    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise sqlite3.ProgrammingError("the database is closed")
        return self._connection

    def _transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._opened
        try:
            connection.execute("BEGIN IMMEDIATE")
            result = work(connection)
            connection.execute("COMMIT")
        except BaseException as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                raise full() from error
            if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                raise Busy("The server's storage is in use by another program.", code="storage_busy", retry_after=5) from error
            raise
        return result


def _write_ahead(connection: sqlite3.Connection) -> None:
    """SQLite does not wait by itself for another process that makes the same change to a new file."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
        time.sleep(_MOMENT)


def _seen(done: asyncio.Future[Any]) -> None:
    """What went wrong is told to whoever waits; asyncio would complain where nobody does any more."""
    if not done.cancelled():
        done.exception()


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def full() -> Unavailable:
    """What a client reads where nothing more can be kept."""
    return Unavailable("The server has no room left to keep results.", code="storage_full", retry=False)
