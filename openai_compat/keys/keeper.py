"""Making, changing and ending keys: the same for the command line and for operators' requests."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from openai_compat.errors import Conflict, InvalidRequest, NotFound
from openai_compat.gateway.metering.cost import amount
from openai_compat.grants import KeyLimits
from openai_compat.keys import table
from openai_compat.keys.file import KeyFile
from openai_compat.keys.record import StoredKey
from openai_compat.keys.secret import digest_of, id_of, new_secret
from schemas.admin import CreateKey, Key, Limits, NewKey, UpdateKey

MOST_KEYS = 10_000
"""Ended ones among them: all are held in memory, and read when a server starts."""
Clock = Callable[[], float]


class Made(NamedTuple):
    """``secret`` is known nowhere else."""

    key: StoredKey
    secret: str


class Page(NamedTuple):
    keys: list[StoredKey]
    has_more: bool


class KeyKeeper:
    """Raises ``ConfigError`` where the file cannot be used, and ``NotFound`` for an id that no key has."""

    def __init__(self, file: KeyFile, *, clock: Clock = time.time) -> None:
        self._file = file
        self._clock = clock

    async def create(self, order: CreateKey) -> Made:
        """Raises ``InvalidRequest`` for an expiry that is over, and ``Conflict`` where there are too many keys."""
        now = int(self._clock())
        _check_expiry(order.expires_at, now)
        secret, digest = _chance()
        key = StoredKey(
            id=id_of(digest),
            digest=digest,
            name=order.name,
            scopes=frozenset(order.scopes),
            models=tuple(dict.fromkeys(order.models)),
            limits=_limited(KeyLimits(), order.limits),
            created=now,
            expires=order.expires_at,
        )
        await self._file.run(lambda connection: _add(connection, key))
        return Made(key, secret)

    async def page(self, *, after: str | None, limit: int) -> Page:
        nothing: list[StoredKey] = []
        found = await self._file.look(lambda connection: table.page(connection, after=after, limit=limit + 1), nothing)
        return Page(found[:limit], len(found) > limit)

    async def get(self, id: str) -> StoredKey:
        found = await self._file.look(lambda connection: table.read(connection, id), None)
        if found is None:
            raise _unknown()
        return found

    async def update(self, id: str, change: UpdateKey) -> StoredKey:
        """Raises ``InvalidRequest`` for an expiry that is over, and ``Conflict`` for a revoked key."""
        if change.expires_at is not UNSET:
            _check_expiry(change.expires_at, int(self._clock()))
        return await self._change(id, lambda key: _updated(key, change))

    async def revoke(self, id: str) -> StoredKey:
        """A second time changes nothing."""
        now = int(self._clock())
        return await self._change(id, lambda key: key if key.revoked is not None else replace(key, revoked=now))

    async def rotate(self, id: str, *, grace: int) -> Made:
        """A new key with the same rights, and the old one's end after ``grace`` seconds. What was spent goes along."""
        now = int(self._clock())
        secret, digest = _chance()

        def work(connection: sqlite3.Connection) -> StoredKey:
            old = _usable(_found(connection, id), now)
            ends = now + grace if old.expires is None else min(old.expires, now + grace)
            new = replace(old, id=id_of(digest), digest=digest, created=now, last_used=None)
            table.change(connection, replace(old, expires=ends))
            _add(connection, new)
            return new

        return Made(await self._file.run(work), secret)

    async def _change(self, id: str, change: Callable[[StoredKey], StoredKey]) -> StoredKey:
        def work(connection: sqlite3.Connection) -> StoredKey:
            old = _found(connection, id)
            new = change(old)
            if new != old:
                table.change(connection, new)
            return new

        await self.get(id)  # so that no file is made for a key that cannot be in it
        return await self._file.run(work)


def described(key: StoredKey, now: float) -> Key:
    """As an operator reads it."""
    return Key(**_fields(key, now))


def described_new(made: Made, now: float) -> NewKey:
    return NewKey(**_fields(made.key, now), value=made.secret)


def _fields(key: StoredKey, now: float) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "status": key.standing(now),
        "scopes": tuple(sorted(key.scopes)),
        "models": key.models,
        "limits": key.limits,
        "created_at": key.created,
        "expires_at": key.expires,
        "revoked_at": key.revoked,
        "last_used_at": key.last_used,
        "spent": amount(key.spent),
    }


def _chance() -> tuple[str, bytes]:
    secret = new_secret()
    return secret, digest_of(secret.encode())


def _add(connection: sqlite3.Connection, key: StoredKey) -> None:
    """In the place of the key that ended first, where there are too many. That goes afterwards: versions never go back."""
    table.add(connection, key)
    if table.count(connection) > MOST_KEYS and not table.forget(connection, key.created):
        raise Conflict(f"There are {MOST_KEYS} keys already, which is the most.", code="too_many_keys")


def _found(connection: sqlite3.Connection, id: str) -> StoredKey:
    found = table.read(connection, id)
    if found is None:
        raise _unknown()
    return found


def _usable(key: StoredKey, now: int) -> StoredKey:
    if (standing := key.standing(now)) != "active":
        raise Conflict(f"The key is {standing}; make another one.", code=f"key_{standing}")
    return key


def _updated(key: StoredKey, change: UpdateKey) -> StoredKey:
    if key.revoked is not None:
        raise Conflict("The key is revoked, which is for good; make another one.", code="key_revoked")
    return replace(
        key,
        name=key.name if change.name is UNSET else change.name,
        scopes=key.scopes if change.scopes is UNSET else frozenset(change.scopes),
        models=key.models if change.models is UNSET else tuple(dict.fromkeys(change.models or ())),
        limits=key.limits if change.limits is UNSET else _limited(key.limits, change.limits),
        expires=key.expires if change.expires_at is UNSET else change.expires_at,
    )


def _limited(limits: KeyLimits, change: Limits | None) -> KeyLimits:
    return KeyLimits() if change is None else replace(limits, **_said(change))


def _said(change: Limits) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(change).items() if value is not UNSET}


def _check_expiry(expires: int | None, now: int) -> None:
    if expires is not None and expires <= now:
        raise InvalidRequest("Invalid value for 'expires_at': it is over already.", param="expires_at", code="invalid_value")


def _unknown() -> NotFound:
    """The same for whatever was asked for, which is not repeated."""
    return NotFound("No such key.", param="id", code="key_not_found")
