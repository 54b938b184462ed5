"""What a request goes on from: the responses before it, a conversation, and items that it names. Read in one look."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator

import msgspec
from msgspec import Struct

from openai_compat.errors import APIError, InvalidRequest, NotFound
from openai_compat.gateway.responses.rows import (
    CONVERSATION,
    RESPONSE,
    UNFINISHED,
    Item,
    Room,
    decoded,
    find,
    item_of_owner,
    no_room,
    now,
)

MAX_TURNS = 1024
"""How many responses one can go on from, one after the other."""
MAX_ITEMS = 8192
"""Of a history, and as many that a request refers to: more than a chat of 2048 messages is made of."""
_PREVIOUS = "previous_response_id"
_SHOWN = 100


class Wanted(Struct, frozen=True, kw_only=True):
    """``named`` are the ids of items that the input refers to, as often as it does. ``longest`` is bytes of what is found."""

    owner: str
    previous: str | None = None
    conversation: str | None = None
    named: tuple[str, ...] = ()
    longest: int


class Found(Struct, frozen=True, kw_only=True):
    """``until`` is the number of the conversation's last item by now."""

    history: list[Item] = []
    named: dict[str, Item] = {}
    until: int = 0


class _Origin(Struct, frozen=True):
    """What is read of a response's record: the conversation that it went on from, up to which item."""

    conversation: str | None = None
    until: int = 0


_origin = msgspec.json.Decoder(_Origin)


def look(connection: sqlite3.Connection, wanted: Wanted, room: Room) -> Found:
    """Raises ``InvalidRequest`` and ``NotFound`` for what is not there, ``Unavailable`` for a conversation that is full."""
    size = _Size(wanted.longest)
    named = {id: _named(connection, wanted.owner, id, times, size) for id, times in Counter(wanted.named).items()}
    if wanted.previous is not None:
        return Found(history=list(_chain(connection, wanted, wanted.previous, size)), named=named)
    if wanted.conversation is None:
        return Found(named=named)
    check_conversation(connection, wanted.conversation, wanted.owner)
    _check_room(connection, wanted.owner, room)
    rows = list(_said(connection, wanted.conversation, None, size))
    return Found(history=[item for _, item in rows], named=named, until=rows[-1][0] if rows else 0)


def nowhere(wanted: Wanted) -> APIError:
    """What ``look`` raises where nothing was ever kept."""
    if wanted.previous is not None:
        return _missing(wanted.previous, None)
    return _unknown(wanted.named[0]) if wanted.named else no_conversation(str(wanted.conversation))


def check_conversation(connection: sqlite3.Connection, id: str, owner: str) -> None:
    if find(connection, CONVERSATION, id, owner) is None:
        raise no_conversation(id)


def no_conversation(id: str) -> NotFound:
    return NotFound(f"Conversation with id '{id[:_SHOWN]}' not found.", param="conversation")


class _Size:
    """Bytes and items that are still allowed."""

    def __init__(self, longest: int) -> None:
        self._left = longest
        self._items = MAX_ITEMS

    def take(self, body: bytes, times: int = 1) -> bytes:
        self._left -= len(body) * times
        self._items -= times
        if self._left < 0 or self._items < 0:
            message = "What this goes on from is larger than a request may be. Begin anew with what still matters of it."
            raise InvalidRequest(message, param="input", code="history_too_large")
        return body


def _chain(connection: sqlite3.Connection, wanted: Wanted, previous: str, size: _Size) -> Iterator[Item]:
    """All items of the responses up to ``previous``, the oldest first."""
    turns = _turns(connection, wanted.owner, previous)
    (record,) = connection.execute("SELECT body FROM objects WHERE id = ?", (turns[-1],)).fetchone()
    origin = _origin.decode(record)
    if origin.conversation is not None and find(connection, CONVERSATION, origin.conversation, wanted.owner) is not None:
        yield from (item for _, item in _said(connection, origin.conversation, origin.until, size))
    for id in reversed(turns):
        rows = connection.execute("SELECT body FROM items WHERE object = ? ORDER BY number", (id,))
        yield from (decoded(size.take(body)) for (body,) in rows)


def _turns(connection: sqlite3.Connection, owner: str, previous: str) -> list[str]:
    """Ids from ``previous`` back to the first one."""
    turns: list[str] = []
    id: str | None = previous
    query = "SELECT status, previous FROM objects WHERE id = ? AND kind = ? AND owner = ? AND (expires IS NULL OR expires > ?)"
    moment = now()
    while id is not None:
        found = connection.execute(query, (id, RESPONSE, owner, moment)).fetchone()
        if found is None:
            raise _missing(previous, None if id == previous else id)
        if found[0] in UNFINISHED:
            message = f"The response '{id}' is not finished yet, so nothing can follow it."
            raise InvalidRequest(message, param=_PREVIOUS, code="response_not_finished")
        if len(turns) == MAX_TURNS:
            message = f"No more than {MAX_TURNS} responses can follow one another. Begin anew, or use a conversation."
            raise InvalidRequest(message, param=_PREVIOUS, code="history_too_large")
        turns.append(id)
        id = found[1]
    return turns


def _missing(previous: str, earlier: str | None) -> InvalidRequest:
    message = f"Previous response with id '{previous[:_SHOWN]}' not found."
    if earlier is not None:
        message = f"The response '{previous}' goes on from '{earlier}', which was deleted or has expired."
    return InvalidRequest(message, param=_PREVIOUS, code="previous_response_not_found")


def _said(connection: sqlite3.Connection, id: str, until: int | None, size: _Size) -> Iterator[tuple[int, Item]]:
    """A conversation's items with their numbers, up to one of them."""
    last = "" if until is None else f"AND number <= {int(until)}"
    rows = connection.execute(f"SELECT number, body FROM items WHERE object = ? {last} ORDER BY number", (id,))  # noqa: S608
    for number, body in rows:
        yield number, decoded(size.take(body))


def _check_room(connection: sqlite3.Connection, owner: str, room: Room) -> None:
    """Conversations do not make room for one another, so it is known before the model is asked."""
    query = "SELECT coalesce(sum(size), 0) FROM objects WHERE owner = ? AND kind = ?"
    if connection.execute(query, (owner, CONVERSATION)).fetchone()[0] >= room.bytes:
        raise no_room()


def _named(connection: sqlite3.Connection, owner: str, id: str, times: int, size: _Size) -> Item:
    """An item that stands in ``times`` places is as large as so many."""
    found = item_of_owner(connection, owner, id)
    if found is None:
        raise _unknown(id)
    return decoded(size.take(found, times))


def _unknown(id: str) -> NotFound:
    message = f"Item with id '{id[:_SHOWN]}' not found. Only items of stored responses and of conversations can be referred to."
    return NotFound(message, param="input")
