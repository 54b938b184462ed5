"""A stream of events on its way from an upstream: what is whole and sound passes as it is, what is not ends it.

Every block of events is read in one call, as if it were one list, of which only the ends of choices, usage and errors become
objects: that costs less than to search it for their names. Events are looked at one by one only where there is something to do.
"""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
from msgspec import UNSET, Struct

from openai_compat.gateway.order import Failure
from openai_compat.gateway.upstreams.errors import ENDED_EARLY, NOTHING, Refusal, failure_of, nonsense
from openai_compat.gateway.upstreams.framing import END, Framing, TooLong
from openai_compat.gateway.upstreams.pieces import (
    Piece,
    Used,
    count_usage,
    is_text,
    read_piece,
    read_pieces,
    read_reply,
    repaired,
    rewritten,
)
from openai_compat.gateway.upstreams.said import read_error, read_said
from openai_compat.gateway.upstreams.scrub import scrub
from openai_compat.http.sse import PING

DONE = b"data: [DONE]\n\n"
_DATA = b"data: "
_FIELDS = frozenset({b"data", b"event", b"id", b"retry"})
_BETWEEN = END + _DATA
_FAILED = 500
_NULLS = (b',"usage":null', b', "usage": null')
_NOT_EVENTS = "The model's upstream sent what is no stream of events."
_NO_CHOICES = "The model's upstream sent an event without choices."
_ENDS = frozenset(
    {
        "response.completed", "response.failed", "response.incomplete", "transcript.text.done", "speech.audio.done",
        "image_generation.completed", "image_edit.completed",
    }
)  # fmt: skip


class Rules(Struct, frozen=True, kw_only=True):
    """What is asked of a stream.

    ``chat``: every event has choices, and the last one says ``[DONE]``. ``ends``: some event is known to be the last one.
    ``drop_usage``: the client did not ask for it. ``model`` is what the model is to be called, if not as the upstream does.
    """

    chat: bool
    ends: bool
    used: Used
    drop_usage: bool = False
    model: str | None = None
    secrets: tuple[str, ...] = ()
    names_model: bool = True


class Guard:
    """One stream. After ``feed`` or ``end``, ``failure`` is what ends the stream once the bytes they gave are sent.

    ``complete``: the last event that means anything was there. ``done``: nothing that comes after it is read.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._framing = Framing()
        self._renaming: tuple[bytes, bytes] | None = None
        self._remote: Any = None
        self._ends: dict[Any, bool] = {}  # of each choice, whether its end was there
        self.complete = False
        self.events = 0
        self.done = False
        self.failure: Failure | Refusal | None = None

    def feed(self, chunk: bytes) -> bytes:
        """What may go to the client of all that came with ``chunk``."""
        try:
            block = self._framing.feed(chunk)
        except TooLong:
            self.failure = nonsense("The model's upstream sent an event without an end.")
            return b""
        return self._pass(block) if block else block

    def end(self) -> bytes:
        """The upstream has ended its answer, whether it was complete or not."""
        rest = self._framing.rest().strip(b"\n")
        out = self._pass(rest + END) if rest else b""
        if self.done or (self.failure is not None and not self._is_half(rest)):
            return out
        if self.failure is None and self._finishes():
            self.done = True
            return out + DONE if self._rules.chat else out
        self.failure = nonsense(ENDED_EARLY if self.events else NOTHING)
        return out

    def _is_half(self, rest: bytes) -> bool:
        """Whether what failed is only a piece of an event."""
        return bool(rest) and not rest.endswith(b"}")

    def _finishes(self) -> bool:
        if self._rules.chat:
            return bool(self._ends) and all(self._ends.values())
        return self.complete or (self.events > 0 and not self._rules.ends)

    def _pass(self, block: bytes) -> bytes:
        if self._rules.drop_usage:
            for null in _NULLS:
                block = block.replace(null, b"")
        pieces = _ordinary(block)
        if pieces is None or not self._all_plain(pieces) or not self._renames_all(block, pieces):
            return b"".join([self._one(event) for event in block.split(END) if event and not event.isspace()])
        self.events += len(pieces)
        return block.replace(*self._renaming) if self._renaming else block

    def _all_plain(self, pieces: list[Piece]) -> bool:
        """Whether there is nothing to do about any of them, the model's name aside. Notes what they say of their choices."""
        chat, drops = self._rules.chat, self._rules.drop_usage
        for piece in pieces:
            if piece.error or (piece.usage is not UNSET and (drops or piece.usage is not None)):
                return False
            if chat and (piece.choices is None or piece.choices is UNSET):
                return False
            if not chat and (piece.type == "error" or _ends(piece)):
                return False
            self._note(piece)
        return True

    def _renames_all(self, block: bytes, pieces: list[Piece]) -> bool:
        """Whether one replacement does it: all have the name that was seen before, and each says it once."""
        if self._rules.model is None:
            return True
        if not self._renaming or any(piece.model != self._remote for piece in pieces):
            return False
        return block.count(self._renaming[0]) == len(pieces)

    def _note(self, piece: Piece) -> None:
        for choice in piece.choices or ():
            if choice.finish_reason or choice.index not in self._ends:
                self._ends[choice.index] = bool(choice.finish_reason)

    def _one(self, event: bytes) -> bytes:
        """What the client gets of one event, or instead of it."""
        if self.done or self.failure is not None:
            return b""
        lines = [line for line in event.split(b"\n") if line]
        fields = [(name, value.removeprefix(b" ")) for name, _, value in (line.partition(b":") for line in lines) if name]
        data = b"\n".join([value for name, value in fields if name == b"data"])
        if not all(name in _FIELDS for name, _ in fields) or not is_text(event):
            return self._fail(nonsense(_NOT_EVENTS))
        if not data:
            return PING if len(fields) < len(lines) else b""
        if data.startswith(b"[DONE]"):
            return self._finish()
        piece, data = _read(data)
        if piece is None:
            return self._odd(data)
        named = b"".join([name + b": " + value + b"\n" for name, value in fields if name != b"data"])
        if piece.error or piece.type == "error" or b"event: error\n" in named:
            return self._fail_as_said(data)
        return self._fit(named, data, piece)

    def _odd(self, data: bytes) -> bytes:
        """What could not be read as an event: an error in a shape of its own, or no event at all."""
        try:
            said = read_said(msgspec.json.decode(data), self._rules.secrets)
        except (msgspec.DecodeError, RecursionError):
            return self._fail(nonsense(_NOT_EVENTS))
        return self._fail_as_said(data) if said.message else self._fail(nonsense(_NOT_EVENTS))

    def _fit(self, named: bytes, data: bytes, piece: Piece) -> bytes:
        """A sound event, in the form that the client asked for; nothing of one that it did not ask for."""
        rules = self._rules
        count_usage(piece.usage, rules.used)
        counts = isinstance(piece.usage, dict)
        if rules.chat and not isinstance(piece.choices, list) and not counts:
            return self._fail_as_said(data)
        if rules.drop_usage and counts and not piece.choices:
            self.events += 1
            return b""
        self.events += 1
        self._note(piece)
        if _ends(piece):
            self.complete = True
            data = self._last(data)
        drops = rules.drop_usage and piece.usage is not UNSET
        lacks = rules.chat and not isinstance(piece.choices, list)
        names = rules.model is not None and b'"model"' in data
        if drops or lacks or (names and self._learn(data, piece) is None):
            data = rewritten(data, model=rules.model, without_usage=drops, with_choices=lacks)
        elif names and self._renaming is not None:
            data = data.replace(*self._renaming)
        return named + b"".join([_DATA + line + b"\n" for line in data.split(b"\n")]) + b"\n"

    def _last(self, data: bytes) -> bytes:
        """The event that ends a stream of another kind than chat: it has the usage, and maybe why it failed."""
        with contextlib.suppress(msgspec.DecodeError, RecursionError):
            reply = read_reply(data).response
            count_usage(None if reply is None else reply.usage, self._rules.used)
        return scrub(data.decode(), self._rules.secrets).encode() if b"failed" in data else data

    def _learn(self, data: bytes, piece: Piece) -> tuple[bytes, bytes] | None:
        """How one replacement renames the model, here and in later blocks; None where its name stands there more than once."""
        name = msgspec.json.encode(piece.model)
        for colon in (b": ", b":"):
            said = b'"model"' + colon + name
            if data.count(said) == 1:
                self._remote = piece.model
                self._renaming = (said, b'"model"' + colon + msgspec.json.encode(self._rules.model))
                return self._renaming
        return None

    def _finish(self) -> bytes:
        if not self.events:
            return self._fail(nonsense(NOTHING))
        self.done = True
        return DONE

    def _fail(self, failure: Failure | Refusal) -> bytes:
        self.failure = failure
        return b""

    def _fail_as_said(self, data: bytes) -> bytes:
        """The upstream's own error, whatever it looks like."""
        said = read_error(data, self._rules.secrets)
        if not said.message and not said.status:
            return self._fail(nonsense(_NO_CHOICES))
        return self._fail(failure_of(said.status or _FAILED, said, names_model=self._rules.names_model))


def _read(data: bytes) -> tuple[Piece | None, bytes]:
    """The event's data as it is or, where that helps, repaired."""
    for _ in range(2):
        try:
            return read_piece(data), data
        except (msgspec.DecodeError, RecursionError):
            data = repaired(data) or data
    return None, data


def _ends(piece: Piece) -> bool:
    return isinstance(piece.type, str) and piece.type in _ENDS


def _ordinary(block: bytes) -> list[Piece] | None:
    """The block's events, where all of them are lines ``data: {…}`` with an empty line behind each."""
    if not (block.startswith(b"data: {") and block.endswith(b"}\n\n") and is_text(block)):
        return None
    try:
        pieces = read_pieces(b"[" + block[len(_DATA) : -len(END)].replace(_BETWEEN, b",") + b"]")
    except (msgspec.DecodeError, RecursionError):
        return None
    return pieces if len(pieces) * 2 == block.count(b"\n") else None
