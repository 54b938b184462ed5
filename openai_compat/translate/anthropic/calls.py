"""Calls as chats stream them, which may mix their pieces → blocks one after another, which may not."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from openai_compat.translate.anthropic.blocks import Blocks, Events
from schemas.answers import ReadCall


class _Call:
    def __init__(self, id: str) -> None:
        self.id = id
        self.name = ""
        self.pieces: list[str] = []


class Calls:
    """One call is live: its pieces are shown as they come. Another becomes live once the arguments before it are complete, and
    is kept back where they are not.

    Args:
        blocks: what the calls become.
        names: what shortened names of tools stand for.
        prefix: begins the ids of calls that have none.
    """

    def __init__(self, blocks: Blocks, names: Mapping[str, str], prefix: str) -> None:
        self._blocks = blocks
        self._names = names
        self._prefix = prefix
        self._calls: dict[int, _Call] = {}
        self._live: int | None = None
        self._waiting: list[int] = []

    def __bool__(self) -> bool:
        """Whether there was any."""
        return bool(self._calls)

    def feed(self, pieces: list[ReadCall]) -> Events:
        return [event for place, piece in enumerate(pieces) for event in self._feed(place, piece)]

    def finish(self) -> Events:
        """What was kept back; no call is live any more, since something else is said or nothing more."""
        events = [event for key in self._waiting for event in self._shown(self._calls[key])]
        self._live, self._waiting = None, []
        return events

    def _feed(self, place: int, piece: ReadCall) -> Events:
        key = place if piece.index is None else piece.index
        call = self._calls.get(key)
        is_new = call is None
        if call is None:
            call = self._calls[key] = _Call(piece.id or f"{self._prefix}{len(self._calls)}")
        arguments = (piece.function and piece.function.arguments) or ""
        call.name = call.name or (piece.function and piece.function.name) or ""
        call.pieces.append(arguments)
        if is_new:
            return self._begin(key, call)
        return self._blocks.arguments(arguments) if key == self._live else []

    def _begin(self, key: int, call: _Call) -> Events:
        if not call.name or self._waiting or not self._is_free():
            self._waiting.append(key)
            return []
        self._live = key
        return self._shown(call)

    def _is_free(self) -> bool:
        """Asked once of each call that is live: if it is not complete, all that begin now wait."""
        return self._live is None or _is_complete("".join(self._calls[self._live].pieces))

    def _shown(self, call: _Call) -> Events:
        name = self._names.get(call.name, call.name)
        return [*self._blocks.tool(call.id, name), *self._blocks.arguments("".join(call.pieces))]


def _is_complete(arguments: str) -> bool:
    try:
        msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return False
    return True
