"""The place of responses and conversations in the server's store, which is opened when there is something to keep."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from openai_compat.config import Config
from openai_compat.config import Responses as Settings
from openai_compat.errors import InvalidRequest, PermissionRefused
from openai_compat.gateway.responses import rows
from openai_compat.gateway.responses.history import Found, Wanted, look, nowhere
from openai_compat.gateway.responses.rows import Draft, Item, ItemRow, Page, Part, Room, Row
from openai_compat.gateway.store.database import Database
from openai_compat.gateway.store.storage import Storage
from openai_compat.sizes import parse_size

T = TypeVar("T")


class Shelf:
    """Every method raises ``Unavailable`` where the disk is full, the file in use, or there is no place for it."""

    def __init__(self, config: Config, storage: Storage) -> None:
        self._storage = storage
        self.renew(config)

    def renew(self, config: Config) -> None:
        """What is kept already stays, also where there is less room now."""
        self.settings: Settings = config.responses
        self.room = Room(most=self.settings.max_per_key, bytes=parse_size(self.settings.quota_per_key))

    @property
    def expires(self) -> int:
        """When what is written now has had its time."""
        return rows.now() + round(self.settings.expiry)

    @property
    def keeps(self) -> bool:
        return self.settings.store

    async def open(self) -> Database:
        """Raises ``PermissionRefused`` where the operator wants nothing kept."""
        if not self.keeps:
            message = "This server keeps no responses and no conversations: the setting 'responses.store' is off."
            raise PermissionRefused(message, code="storage_disabled")
        return (await self._storage.open()).database

    # ------------------------------------------------------------ writing

    async def add(self, draft: Draft, conversation: str | None = None) -> bool:
        """Keep a new object; a response's items go into its conversation in the same step. False where that one is gone."""
        return await (await self.open()).run(partial(_add, draft=draft, conversation=conversation, room=self.room))

    async def finish(self, draft: Draft, conversation: str | None = None) -> bool:
        """The end of an unfinished response, for which there is room in any case. False where it is gone, or was finished."""
        return await (await self._storage.open()).database.run(partial(_finish, draft=draft, conversation=conversation))

    async def append(self, id: str, owner: str, items: list[Item]) -> bool:
        work = partial(rows.append, id=id, owner=owner, items=items, room=self.room, expires=self.expires)
        return await (await self.open()).run(work)

    async def rewrite(self, id: str, body: bytes) -> None:
        """Another record of a conversation, which stays as long as it would have."""
        statement = "UPDATE objects SET body = ? WHERE id = ?"
        await (await self.open()).run(lambda connection: connection.execute(statement, (body, id)))

    async def remove_item(self, object: str, found: ItemRow) -> None:
        await (await self.open()).run(partial(rows.remove_item, object=object, found=found))

    async def remove(self, id: str) -> None:
        await (await self.open()).run(lambda connection: connection.execute("DELETE FROM objects WHERE id = ?", (id,)))

    async def cut_off(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """Change what an earlier server left unfinished, where it left anything."""
        if self._storage.store is not None:
            await self._storage.store.database.run(work)

    # ------------------------------------------------------------ reading

    async def history(self, wanted: Wanted) -> Found:
        """Raises ``InvalidRequest`` and ``NotFound`` for what is not there."""
        if wanted.previous is None and wanted.conversation is None and not wanted.named:
            return Found()
        if self._storage.store is None:
            raise nowhere(wanted)
        return await self._storage.store.database.look(partial(look, wanted=wanted, room=self.room))

    async def find(self, kind: str, id: str, owner: str) -> Row | None:
        return await self._look(partial(rows.find, kind=kind, id=id, owner=owner), None)

    async def find_response(self, id: str, owner: str) -> tuple[Row, list[Item]] | None:
        """With what it put out."""
        return await self._look(partial(_with_output, id=id, owner=owner), None)

    async def page(self, object: str, part: Part, *, after: str | None, limit: int, ascending: bool) -> Page:
        """Raises ``InvalidRequest`` where there is no item ``after``."""
        work = partial(_page, object=object, part=part, after=after, limit=limit, ascending=ascending)
        return await self._look(work, Page([]))

    async def item(self, object: str, part: Part, id: str) -> ItemRow | None:
        return await self._look(partial(rows.item_of, object=object, part=part, id=id), None)

    async def _look(self, work: Callable[[sqlite3.Connection], T], nothing: T) -> T:
        """``nothing`` where nothing was ever kept."""
        if self._storage.store is None:
            return nothing
        return await self._storage.store.database.look(work)


def _add(connection: sqlite3.Connection, draft: Draft, conversation: str | None, room: Room) -> bool:
    rows.insert(connection, draft, room)
    return _said(connection, draft, conversation, room)


def _finish(connection: sqlite3.Connection, draft: Draft, conversation: str | None) -> bool:
    return rows.update(connection, draft) and _said(connection, draft, conversation, None)


def _said(connection: sqlite3.Connection, draft: Draft, conversation: str | None, room: Room | None) -> bool:
    if conversation is None:
        return True
    return rows.append(connection, conversation, draft.owner, [*draft.inputs, *draft.outputs], room, draft.expires)


def _with_output(connection: sqlite3.Connection, id: str, owner: str) -> tuple[Row, list[Item]] | None:
    found = rows.find(connection, rows.RESPONSE, id, owner)
    return None if found is None else (found, rows.items_of(connection, id, "output"))


def _page(connection: sqlite3.Connection, object: str, part: Part, after: str | None, limit: int, ascending: bool) -> Page:
    place = None
    if after is not None:
        found = rows.item_of(connection, object, part, after, oldest=not ascending)  # else pages might never come to their end
        if found is None:
            raise InvalidRequest(f"There is no item '{after}' to go on after.", param="after", code="invalid_value")
        place = found.number
    return rows.page(connection, object, part, after=place, limit=limit, ascending=ascending)
