"""Whatever has an id. Each belongs to the key that made it, and to any other does not exist."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from openai_compat.gateway.store.database import Database

Order = Literal["asc", "desc"]
_COLUMNS = "number, id, owner, status, created, expires, body"


class Kept(Struct, frozen=True):
    """An object as it is stored; ``body`` is JSON. ``number`` grows with each one made."""

    number: int
    id: str
    owner: str
    status: str
    created: int
    expires: int | None
    body: bytes


class Page(Struct, frozen=True):
    items: tuple[Kept, ...]
    has_more: bool


class Objects:
    """The objects of one ``kind``."""

    def __init__(self, database: Database, kind: str) -> None:
        self._database = database
        self._kind = kind

    async def add(self, id: str, *, owner: str, status: str, created: int, body: bytes) -> None:
        """Keep a new one, which does not expire before it is told to."""
        values = (id, self._kind, owner, status, created, body)
        columns = "id, kind, owner, status, created, body"
        statement = f"INSERT INTO objects ({columns}) VALUES (?, ?, ?, ?, ?, ?)"  # noqa: S608
        await self._database.run(lambda connection: connection.execute(statement, values))

    async def change(self, id: str, *, status: str, body: bytes, expires: int | None = None) -> None:
        """Its files expire with it. Nothing happens where it is gone."""

        def work(connection: sqlite3.Connection) -> None:
            statement = "UPDATE objects SET status = ?, body = ?, expires = ? WHERE id = ? AND kind = ?"
            connection.execute(statement, (status, body, expires, id, self._kind))
            connection.execute("UPDATE media SET expires = ? WHERE object = ?", (expires, id))

        await self._database.run(work)

    async def get(self, id: str, owner: str) -> Kept | None:
        """The object, if it is ``owner``'s and has not expired."""
        where = "id = ? AND kind = ? AND owner = ? AND (expires IS NULL OR expires > ?)"
        found = await self._select(f"WHERE {where}", (id, self._kind, owner, _now()))
        return found[0] if found else None

    async def page(self, owner: str, *, after: int | None, limit: int, order: Order) -> Page:
        """``limit`` of ``owner``'s from the one numbered ``after`` on, which is not among them."""
        sign, direction = (">", "ASC") if order == "asc" else ("<", "DESC")
        start = "" if after is None else f"AND number {sign} ?"
        found = await self._select(
            f"WHERE kind = ? AND owner = ? AND (expires IS NULL OR expires > ?) {start} ORDER BY number {direction} LIMIT ?",
            (self._kind, owner, _now(), *(() if after is None else (after,)), limit + 1),
        )
        return Page(tuple(found[:limit]), len(found) > limit)

    async def with_status(self, *statuses: str) -> tuple[Kept, ...]:
        """Everybody's, the oldest first."""
        marks = ", ".join("?" * len(statuses))
        return tuple(await self._select(f"WHERE kind = ? AND status IN ({marks}) ORDER BY number", (self._kind, *statuses)))

    async def _select(self, rest: str, values: Sequence[object]) -> list[Kept]:
        def read(connection: sqlite3.Connection) -> list[Kept]:
            return [Kept(*row) for row in connection.execute(f"SELECT {_COLUMNS} FROM objects {rest}", values)]  # noqa: S608

        return await self._database.look(read)


def _now() -> int:
    return int(time.time())
