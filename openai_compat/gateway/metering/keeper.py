"""Keeps what was used beyond the life of a server: off the requests' way, a few seconds late, and at the end."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable

from openai_compat.config import Config, ConfigError
from openai_compat.errors import Unavailable
from openai_compat.gateway.metering import persistence
from openai_compat.gateway.metering.counters import HOUR, Sums, Table, added
from openai_compat.gateway.metering.ledger import Ledger
from openai_compat.gateway.store.database import Database
from openai_compat.gateway.store.place import folder_of
from openai_compat.gateway.store.storage import Storage
from openai_compat.gateway.tasks import Tasks

logger = logging.getLogger(__name__)
_INTERVAL = 5.0
_PAUSE = 300.0  # seconds until writing is tried again where it has failed
_DAY = 24  # hours


class UsageKeeper:
    """Writes a ledger's sums to the store, which it opens when there are any.

    A server whose store would end with it keeps them in memory only, and so does one that has no place for a store.
    """

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        storage: Storage,
        *,
        clock: Callable[[], float] = time.time,
        interval: float = _INTERVAL,
    ) -> None:
        self._ledger = ledger
        self._storage = storage
        self._clock = clock
        self._interval = interval
        self._lasts = _has_place(config)
        self._tidy_day = 0
        self._writing = asyncio.Lock()
        self._tasks = Tasks()

    async def start(self) -> None:
        """Go on where an earlier server has ended. The store is there already where one has left anything."""
        if (database := self._open_database) is not None:
            hour = await self._tidied(database)
            self._ledger.recall(await persistence.read(database, key_id=None, since=hour - _DAY, model=None))
            self._ledger.spent.update(await persistence.spent(database))
        self._tasks.spawn(self._keep())

    async def close(self) -> None:
        """Write what is left."""
        async with self._writing:  # so that nothing is broken off that may have been written
            await self._tasks.cancel()
        await self._flush()

    async def read(self, *, key_id: str | None, since: int, model: str | None) -> Table:
        """All sums from the hour ``since`` on, written or not, by key, model and hour. Every key's where ``key_id`` is None."""
        async with self._writing:
            database = self._open_database
            known = {} if database is None else await persistence.read(database, key_id=key_id, since=since, model=model)
            for place, sums in self._ledger.counters.unwritten:
                wanted = key_id in (None, place.key_id) and model in (None, place.label)
                if wanted and place.hour >= since:
                    added(known, place, sums)
        return known

    @property
    def _open_database(self) -> Database | None:
        return None if self._storage.store is None else self._storage.store.database

    async def _keep(self) -> None:
        while True:
            await self._ledger.counters.news.wait()
            await asyncio.sleep(self._interval)
            await asyncio.sleep(0 if await self._flush() else _PAUSE)

    async def _flush(self) -> bool:
        """Whether nothing went wrong."""
        if self._open_database is None and not self._lasts:
            self._ledger.counters.news.clear()  # nobody will ask for it but ``read``
            return True
        async with self._writing:
            table = self._ledger.counters.take()
            if not table:
                return True
            try:
                store = await self._storage.open()
                await self._tidied(store.database)
                await persistence.write(store.database, table)
            except (Unavailable, sqlite3.Error, OSError) as error:
                self._ledger.counters.give_back(table)
                logger.warning("what was used could not be written: %s", error)
                return False
        return True

    async def _tidied(self, database: Database) -> int:
        """Tidy the table once a day. Returns the hour that it is."""
        hour = int(self._clock() // HOUR)
        if hour // _DAY != self._tidy_day:
            await persistence.tidy(database, hour)
            self._tidy_day = hour // _DAY
        return hour


def by_day(table: Table) -> dict[tuple[int, str], Sums]:
    """Sums of all keys by day (of the epoch) and model, the newest day first."""
    days: dict[tuple[int, str], Sums] = {}
    for place, sums in sorted(table.items(), key=lambda item: (-(item[0].hour // _DAY), item[0].label)):
        days.setdefault((place.hour // _DAY, place.label), Sums()).add(sums)
    return days


def _has_place(config: Config) -> bool:
    try:
        return folder_of(config) is not None
    except ConfigError:
        return False
