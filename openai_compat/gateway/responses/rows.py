"""Responses, conversations and their items as rows: functions of a connection, for the database's thread."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from openai_compat.errors import Unavailable

Item = dict[str, Any]
Part = Literal["input", "output", "said"]
RESPONSE = "response"
CONVERSATION = "conversation"
UNFINISHED = ("queued", "in_progress")
_ROW = 256  # bytes that a row takes beside its body, about
_PAGE = 8 << 20  # bytes of a page's items, unless one alone is larger
_ITEM = msgspec.json.Decoder(dict[str, Any])
_LIVES = "(expires IS NULL OR expires > ?)"


class Room(Struct, frozen=True, kw_only=True):
    """What one key may keep: responses and conversations together, and bytes of all of them."""

    most: int
    bytes: int


class Draft(Struct, frozen=True, kw_only=True):
    """An object to be written. ``body`` is its record as JSON; a conversation's items are ``said``."""

    id: str
    kind: str
    owner: str
    status: str
    created: int
    expires: int
    body: bytes
    previous: str | None = None
    inputs: Sequence[Item] = ()
    outputs: Sequence[Item] = ()
    said: Sequence[Item] = ()


class Row(Struct, frozen=True):
    """An object as it is kept; ``status`` is a response's."""

    id: str
    status: str
    created: int
    body: bytes


class ItemRow(Struct, frozen=True):
    number: int
    item: Item


class Page(Struct, frozen=True):
    """Items in the order that was asked for; ``more``: there are others after them."""

    rows: list[ItemRow]
    more: bool = False


def insert(connection: sqlite3.Connection, draft: Draft, room: Room) -> None:
    """Raises ``Unavailable`` where the key has no room for it, even without its older responses."""
    parts = _encoded(draft)
    size = len(draft.body) + _ROW + _size(parts)
    make_room(connection, draft.owner, room, size, more=1)
    columns = "id, kind, owner, status, created, expires, body, previous, size"
    values = (
        draft.id, draft.kind, draft.owner, draft.status, draft.created, draft.expires, draft.body, draft.previous, size,
    )  # fmt: skip
    connection.execute(f"INSERT INTO objects ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)  # noqa: S608
    _insert_items(connection, draft.id, draft.owner, parts)


def update(connection: sqlite3.Connection, draft: Draft) -> bool:
    """Write another state of a response, whose input stays. False where it is gone, or was finished already."""
    outputs = [("output", str(item["id"]), msgspec.json.encode(item)) for item in draft.outputs]
    size = len(draft.body) + _size(outputs)
    changed = connection.execute(
        "UPDATE objects SET status = ?, body = ?, expires = ?, size = size + ? "
        "WHERE id = ? AND owner = ? AND status IN ('queued', 'in_progress') RETURNING id",
        (draft.status, draft.body, draft.expires, size, draft.id, draft.owner),
    ).fetchall()
    if changed:
        _insert_items(connection, draft.id, draft.owner, outputs)
    return bool(changed)


def append(connection: sqlite3.Connection, id: str, owner: str, items: Sequence[Item], room: Room | None, expires: int) -> bool:
    """Add to a conversation. False where it is gone. Raises ``Unavailable`` where there is a ``room`` and it is full."""
    parts = [("said", str(item["id"]), msgspec.json.encode(item)) for item in items]
    size = _size(parts)
    if room is not None:
        make_room(connection, owner, room, size)
    changed = connection.execute(
        f"UPDATE objects SET expires = ?, size = size + ? WHERE id = ? AND owner = ? AND {_LIVES} RETURNING id",  # noqa: S608
        (expires, size, id, owner, now()),
    ).fetchall()
    if changed:
        _insert_items(connection, id, owner, parts)
    return bool(changed)


def make_room(connection: sqlite3.Connection, owner: str, room: Room, size: int, *, more: int = 0) -> None:
    """Remove the oldest finished responses of a key, as many as it takes and no more. Raises ``Unavailable``."""
    found = connection.execute("SELECT count, bytes FROM held WHERE owner = ?", (owner,)).fetchone()
    count, used = found or (0, 0)
    too_many, too_much = count + more - room.most, used + size - room.bytes
    if too_many <= 0 and too_much <= 0:
        return
    victims = []
    for id, freed in _finished(connection, owner):
        victims.append((id,))
        too_many, too_much = too_many - 1, too_much - freed
        if too_many <= 0 and too_much <= 0:
            connection.executemany("DELETE FROM objects WHERE id = ?", victims)
            return
    raise no_room()


def no_room() -> Unavailable:
    message = "The server has no room left for what this key keeps: delete responses or conversations."
    return Unavailable(message, code="storage_full", retry=False)


def find(connection: sqlite3.Connection, kind: str, id: str, owner: str) -> Row | None:
    """None for another key's, and for what has expired."""
    query = f"SELECT id, status, created, body FROM objects WHERE id = ? AND kind = ? AND owner = ? AND {_LIVES}"  # noqa: S608
    found = connection.execute(query, (id, kind, owner, now())).fetchone()
    return None if found is None else Row(*found)


def items_of(connection: sqlite3.Connection, id: str, part: Part) -> list[Item]:
    rows = connection.execute("SELECT body FROM items WHERE object = ? AND part = ? ORDER BY number", (id, part))
    return [_ITEM.decode(body) for (body,) in rows]


def page(connection: sqlite3.Connection, id: str, part: Part, *, after: int | None, limit: int, ascending: bool) -> Page:
    """``limit`` items of one object at most, from the one numbered ``after`` on, which is not among them; fewer where they are
    so large that an answer of them all would be too much to hold.
    """
    sign, direction = (">", "ASC") if ascending else ("<", "DESC")
    start = "" if after is None else f"AND number {sign} {int(after)}"
    query = f"SELECT number, body FROM items WHERE object = ? AND part = ? {start} ORDER BY number {direction} LIMIT ?"  # noqa: S608
    rows, size = list[ItemRow](), 0
    for number, body in connection.execute(query, (id, part, limit + 1)):
        size += len(body)
        if rows and (size > _PAGE or len(rows) == limit):
            return Page(rows, more=True)
        rows.append(ItemRow(number, _ITEM.decode(body)))
    return Page(rows)


def item_of(connection: sqlite3.Connection, object: str, part: Part, id: str, *, oldest: bool = False) -> ItemRow | None:
    """One item of an object; the newest, or the oldest, where it has several of that id."""
    direction = "ASC" if oldest else "DESC"
    query = f"SELECT number, body FROM items WHERE object = ? AND part = ? AND id = ? ORDER BY number {direction} LIMIT 1"  # noqa: S608
    found = connection.execute(query, (object, part, id)).fetchone()
    return None if found is None else ItemRow(found[0], _ITEM.decode(found[1]))


def item_of_owner(connection: sqlite3.Connection, owner: str, id: str) -> bytes | None:
    """Whatever the key keeps under that id, as JSON; the newest of several."""
    query = (
        "SELECT items.body FROM items JOIN objects ON objects.id = items.object WHERE items.owner = ? AND items.id = ? "
        "AND (expires IS NULL OR expires > ?) ORDER BY items.number DESC LIMIT 1"
    )
    found = connection.execute(query, (owner, id, now())).fetchone()
    return None if found is None else bytes(found[0])


def remove_item(connection: sqlite3.Connection, object: str, found: ItemRow) -> None:
    freed = connection.execute("SELECT length(body) FROM items WHERE number = ?", (found.number,)).fetchone()
    if freed is not None:
        connection.execute("DELETE FROM items WHERE number = ?", (found.number,))
        connection.execute("UPDATE objects SET size = max(0, size - ?) WHERE id = ?", (freed[0] + _ROW, object))


def decoded(body: bytes) -> Item:
    return _ITEM.decode(body)


def now() -> int:
    return int(time.time())


Encoded = list[tuple[str, str, bytes]]


def _encoded(draft: Draft) -> Encoded:
    groups: Iterable[tuple[str, Sequence[Item]]] = (
        ("input", draft.inputs), ("output", draft.outputs), ("said", draft.said),
    )  # fmt: skip
    return [(part, str(item["id"]), msgspec.json.encode(item)) for part, items in groups for item in items]


def _size(parts: Encoded) -> int:
    return sum(len(body) + _ROW for _, _, body in parts)


def _insert_items(connection: sqlite3.Connection, object: str, owner: str, parts: Encoded) -> None:
    statement = "INSERT INTO items (id, object, owner, part, body) VALUES (?, ?, ?, ?, ?)"
    connection.executemany(statement, [(id, object, owner, part, body) for part, id, body in parts])


def _finished(connection: sqlite3.Connection, owner: str) -> Iterator[tuple[str, int]]:
    query = (
        "SELECT id, size FROM objects WHERE kind = ? AND owner = ? AND status NOT IN ('queued', 'in_progress') ORDER BY number"
    )
    yield from connection.execute(query, (RESPONSE, owner))
