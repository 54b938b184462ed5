"""The table of keys: each function is part of a transaction that its caller has begun, or reads.

Every value is bound, none is written into a statement.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import msgspec

from openai_compat.gateway.metering.cost import UNIT
from openai_compat.grants import KeyLimits, Scope
from openai_compat.keys.record import StoredKey

T = TypeVar("T")
_COLUMNS = (
    "id, digest, name, scopes, models, limits, created, expires, revoked, last_used, spent, spent_rest, version"  # of ``_key``
)
_NEVER = 1 << 60
_NEXT = "(SELECT coalesce(max(version), 0) + 1 FROM keys)"


def add(connection: sqlite3.Connection, key: StoredKey) -> None:
    """Raises ``sqlite3.IntegrityError`` where there is a key with this id."""
    values = (key.id, key.digest, *_rights(key), key.created, *divmod(key.spent, UNIT))
    columns = "id, digest, name, scopes, models, limits, expires, revoked, created, spent, spent_rest, version"
    connection.execute(f"INSERT INTO keys ({columns}) VALUES ({'?, ' * len(values)}{_NEXT})", values)  # noqa: S608


def change(connection: sqlite3.Connection, key: StoredKey) -> None:
    """Write what it may do."""
    columns = "name = ?, scopes = ?, models = ?, limits = ?, expires = ?, revoked = ?"
    statement = f"UPDATE keys SET {columns}, version = {_NEXT} WHERE id = ?"  # noqa: S608
    connection.execute(statement, (*_rights(key), key.id))


def read(connection: sqlite3.Connection, id: str) -> StoredKey | None:
    return next(_select(connection, "WHERE id = ?", (id,)), None)


def page(connection: sqlite3.Connection, *, after: str | None, limit: int) -> list[StoredKey]:
    """In the order in which they were made, from the one after ``after`` on; none where there is no such key."""
    if after is None:
        return list(_select(connection, "ORDER BY number LIMIT ?", (limit,)))
    behind = "WHERE number > (SELECT number FROM keys WHERE id = ?) ORDER BY number LIMIT ?"
    return list(_select(connection, behind, (after, limit)))


def count(connection: sqlite3.Connection) -> int:
    (number,) = connection.execute("SELECT count(*) FROM keys").fetchone()
    return int(number)


def forget(connection: sqlite3.Connection, now: int) -> bool:
    """Drop the key that was revoked, or has expired, the longest ago; whether there was one."""
    ended = f"min(coalesce(revoked, {_NEVER}), coalesce(expires, {_NEVER}))"
    first = f"SELECT id FROM keys WHERE {ended} <= ? ORDER BY {ended}, number LIMIT 1"  # noqa: S608
    return connection.execute(f"DELETE FROM keys WHERE id = ({first})", (now,)).rowcount > 0  # noqa: S608


def version(connection: sqlite3.Connection) -> int:
    """Another number, a larger one, whenever rights have changed; 0 where there are no keys."""
    (newest,) = connection.execute("SELECT coalesce(max(version), 0) FROM keys").fetchone()
    return int(newest)


def changed_since(connection: sqlite3.Connection, version: int) -> list[StoredKey]:
    """In the order of their changes."""
    return list(_select(connection, "WHERE version > ? ORDER BY version", (version,)))


def touch(connection: sqlite3.Connection, used: Mapping[str, int]) -> None:
    """Write when keys were last used."""
    connection.executemany("UPDATE keys SET last_used = ? WHERE id = ?", [(when, id) for id, when in used.items()])


def spend(connection: sqlite3.Connection, costs: Mapping[str, int]) -> None:
    """Add to what keys have cost; ids of no row are passed over. For the transaction that writes usage."""
    rows = [(*divmod(cost, UNIT), cost % UNIT, id) for id, cost in costs.items()]
    connection.executemany(
        f"UPDATE keys SET spent = spent + ? + (spent_rest + ?) / {UNIT}, spent_rest = (spent_rest + ?) % {UNIT} WHERE id = ?",  # noqa: S608
        rows,
    )


def spent(connection: sqlite3.Connection) -> dict[str, int]:
    """What each key has cost so far, where it has cost anything."""
    rows = connection.execute("SELECT id, spent, spent_rest FROM keys WHERE spent > 0 OR spent_rest > 0")
    return {id: whole * UNIT + rest for id, whole, rest in rows}


def _rights(key: StoredKey) -> tuple[object, ...]:
    scopes, models = _json(sorted(key.scopes)), _json(key.models)
    return (key.name, scopes, models, _json(key.limits), key.expires, key.revoked)


def _select(connection: sqlite3.Connection, rest: str, values: tuple[object, ...]) -> Iterator[StoredKey]:
    return map(_key, connection.execute(f"SELECT {_COLUMNS} FROM keys {rest}", values))  # noqa: S608


def _key(row: tuple[Any, ...]) -> StoredKey:
    """Raises ``sqlite3.DatabaseError`` for a row that nobody of us has written."""
    id, digest, name, scopes, models, limits, created, expires, revoked, last_used, spent, rest, version = row
    return StoredKey(
        id=id,
        digest=digest,
        name=name,
        scopes=_read(id, scopes, frozenset[Scope]),
        models=_read(id, models, tuple[str, ...]),
        limits=_read(id, limits, KeyLimits),
        created=created,
        expires=expires,
        revoked=revoked,
        last_used=last_used,
        spent=spent * UNIT + rest,
        version=version,
    )


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _read(id: str, text: str, type: type[T]) -> T:
    try:
        return msgspec.json.decode(text, type=type)
    except (msgspec.DecodeError, TypeError) as error:
        raise sqlite3.DatabaseError(f"the row of the key {id!r} is damaged") from error
