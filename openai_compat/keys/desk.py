"""``routes.admin.KeyDesk``: keys as operators' requests make them, in force before they are answered."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Awaitable
from typing import TypeVar

from openai_compat.config import ConfigError
from openai_compat.errors import Unavailable
from openai_compat.keys.audit import audit
from openai_compat.keys.keeper import KeyKeeper, described, described_new
from openai_compat.keys.record import StoredKey
from openai_compat.keys.ring import Ring
from schemas.admin import CreateKey, Key, KeyDeleted, KeyList, KeyListQuery, NewKey, UpdateKey

T = TypeVar("T")
_logger = logging.getLogger(__name__)


class Desk:
    def __init__(self, ring: Ring) -> None:
        self._ring = ring

    async def list(self, query: KeyListQuery) -> KeyList:
        keys, has_more = await _had(self._keeper.page(after=query.after, limit=query.limit))
        ids = [key.id for key in keys]
        return KeyList(
            data=tuple(described(key, time.time()) for key in keys),
            first_id=ids[0] if ids else None,
            last_id=ids[-1] if ids else None,
            has_more=has_more,
        )

    async def create(self, order: CreateKey, by: str) -> NewKey:
        made = await _had(self._keeper.create(order))
        await self._done("created", made.key, by)
        return described_new(made, time.time())

    async def get(self, id: str) -> Key:
        return described(await _had(self._keeper.get(id)), time.time())

    async def update(self, id: str, change: UpdateKey, by: str) -> Key:
        key = await _had(self._keeper.update(id, change))
        await self._done("updated", key, by)
        return described(key, time.time())

    async def revoke(self, id: str, by: str) -> KeyDeleted:
        key = await _had(self._keeper.revoke(id))
        await self._done("revoked", key, by)
        return KeyDeleted(id=key.id)

    @property
    def _keeper(self) -> KeyKeeper:
        """Raises ``Unavailable`` where this server has no place for keys."""
        try:
            return self._ring.keeper()
        except ConfigError as error:
            raise _unavailable(error) from error

    async def _done(self, what: str, key: StoredKey, by: str) -> None:
        """Put it on record, ids only, and in force, also where the rest of the file cannot be read."""
        audit(what, key.id, by or "the socket's owner")
        try:
            await self._ring.refresh(known=key.id)
        except (ConfigError, sqlite3.Error) as error:
            _logger.error("changes of API keys cannot be read: %s", error)
            self._ring.adopt(key)


async def _had(work: Awaitable[T]) -> T:
    try:
        return await work
    except (ConfigError, sqlite3.Error) as error:
        raise _unavailable(error) from error


def _unavailable(error: Exception) -> Unavailable:
    """The reason has a path in it, which is for the server's log."""
    _logger.error("keys cannot be reached: %s", error)
    return Unavailable("This server cannot reach its keys; its log says why.", code="storage_unavailable", retry=False)
