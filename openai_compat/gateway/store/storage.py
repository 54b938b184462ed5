"""The life of what is kept: opened when it is first needed, swept while it is open, closed with the server."""

from __future__ import annotations

import asyncio
import logging
import sqlite3

from openai_compat.config import Config, ConfigError
from openai_compat.errors import Unavailable
from openai_compat.gateway.store.database import Database
from openai_compat.gateway.store.folder import MediaFolder
from openai_compat.gateway.store.objects import Objects
from openai_compat.gateway.store.place import DATABASE, Place, folder_of, take
from openai_compat.gateway.tasks import Tasks
from openai_compat.sizes import parse_size

logger = logging.getLogger(__name__)
_SWEEP = 60.0  # seconds between two looks for what has expired


class Store:
    """An open store."""

    def __init__(self, place: Place, database: Database, media: MediaFolder) -> None:
        self._place = place
        self._database = database
        self.media = media

    def objects(self, kind: str) -> Objects:
        return Objects(self._database, kind)

    @property
    def database(self) -> Database:
        """For what has a table of its own."""
        return self._database

    async def close(self) -> None:
        await self._database.close()
        await asyncio.to_thread(self._place.close)


class Storage:
    """The server's store, made on the disk as soon as there is something to keep; until then ``store`` is None."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.store: Store | None = None
        self._place: Place | None = None
        self._opening = asyncio.Lock()
        self._tasks = Tasks()

    def claim(self) -> None:
        """Take a folder that is configured before anything is started. Raises ``ConfigError`` where it cannot be had."""
        if self._config.storage.dir:
            self._place = take(self._config)

    async def start(self) -> Store | None:
        """Open what an earlier server has left, or a folder that is configured.

        Raises ``ConfigError`` where the latter cannot be used; a server without one lives without its store.
        """
        if self._config.storage.dir:
            return await self._opened()
        try:
            folder = folder_of(self._config)
            return await self.open() if folder is not None and (folder / DATABASE).exists() else None
        except (ConfigError, Unavailable):
            return None

    async def open(self) -> Store:
        """Raises ``Unavailable`` where nothing can be kept on this machine."""
        if self.store is not None:
            return self.store
        try:
            return await self._opened()
        except ConfigError as error:
            logger.error("%s", error)
            raise Unavailable("This server has no place to keep results.", code="storage_unavailable", retry=False) from error

    async def close(self) -> None:
        await self._tasks.cancel()
        if self.store is not None:
            await self.store.close()
            self.store = None

    async def _opened(self) -> Store:
        async with self._opening:
            if self.store is None:
                place = await self._taken()
                try:
                    self.store = await self._fill(place)
                except BaseException:
                    place.close()
                    raise
                self._tasks.spawn(self._sweep(self.store))
                logger.info("results are kept in %s", place.path)
            return self.store

    async def _taken(self) -> Place:
        claimed, self._place = self._place, None
        return await asyncio.to_thread(take, self._config) if claimed is None else claimed

    async def _fill(self, place: Place) -> Store:
        database = Database(place.path / DATABASE)
        await database.open()
        media = MediaFolder(place.path / "media", database, parse_size(self._config.storage.quota))
        await media.begin()
        return Store(place, database, media)

    async def _sweep(self, store: Store) -> None:
        while True:
            try:
                await store.media.expire()
            except (OSError, sqlite3.Error, Unavailable) as error:  # a full disk has room again by the next time, perhaps
                logger.warning("what has expired could not be removed: %s", error)
            await asyncio.sleep(_SWEEP)
