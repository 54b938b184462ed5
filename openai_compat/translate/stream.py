"""Events of a streamed text answer. This is the hot path: all that stays equal is encoded once, and a batch is one write."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import msgspec

from handlers.types import Delta, TextChoice, TextDelta, TextResult, ToolCallDelta
from openai_compat.translate.common import Meta, to_usage

DONE = b"data: [DONE]\n\n"
encode = msgspec.json.Encoder().encode


class TextStream(ABC):
    """Makes the events of one answer; the state is which choices have begun.

    Args:
        meta: what every event repeats.
        object: the ``object`` key of the events.
        include_usage: whether the client asked for the usage event; only then do the others say ``"usage": null``.
    """

    def __init__(self, meta: Meta, *, object: str, include_usage: bool) -> None:
        envelope = encode({"id": meta.id, "object": object, "created": meta.created, "model": meta.model})
        self._head = b"data: " + envelope[:-1] + b',"choices":['
        self._open = self._head + b'{"index":'
        self._tail = b'}],"usage":null}\n\n' if include_usage else b"}]}\n\n"
        self._include_usage = include_usage
        self._begun: set[int] = set()

    def deltas(self, batch: Iterable[Delta]) -> bytes:
        """The events of what a handler emitted since the last look."""
        out: list[bytes] = []
        for delta in batch:
            if isinstance(delta, TextDelta):
                self._add(out, delta)
        return b"".join(out)

    def finish(self, result: TextResult) -> bytes:
        """One finish event a choice, the usage event if asked for, and the end of the stream.

        A choice of which nothing was emitted is sent whole first.
        """
        out: list[bytes] = []
        for choice in result.choices:
            if choice.index not in self._begun:
                self._add(out, _as_delta(choice))
            out.append(self._end(choice))
        if self._include_usage:
            out.append(self._head + b'],"usage":' + encode(to_usage(result.usage)) + b"}\n\n")
        out.append(DONE)
        return b"".join(out)

    def _add(self, out: list[bytes], delta: TextDelta) -> None:
        if delta.index not in self._begun:
            self._begun.add(delta.index)
            out.append(self._begin(delta))
        if delta.reasoning:
            out.append(self._thought(delta))
        if delta.text or delta.logprobs:
            out.append(self._piece(delta))
        if delta.tool_calls:
            out.extend(self._call(delta.index, piece) for piece in delta.tool_calls)

    @abstractmethod
    def _begin(self, delta: TextDelta) -> bytes:
        """What announces the choice of its first delta; may be nothing."""

    def _thought(self, delta: TextDelta) -> bytes:
        """One event with a piece of the reasoning, where the answer has a place for it."""
        return b""

    def _call(self, index: int, piece: ToolCallDelta) -> bytes:
        """One event with a piece of a call, where the answer has a place for it."""
        return b""

    @abstractmethod
    def _piece(self, delta: TextDelta) -> bytes:
        """One event with a piece of the text."""

    @abstractmethod
    def _end(self, choice: TextChoice) -> bytes:
        """The one event with the choice's ``finish_reason``."""


def _as_delta(choice: TextChoice) -> TextDelta:
    """A choice in one piece."""
    calls = [
        piece
        for index, call in enumerate(choice.tool_calls)
        for piece in (
            ToolCallDelta(index=index, id=call.id, name=call.name),
            ToolCallDelta(index=index, arguments=call.arguments),
        )
    ]
    return TextDelta(
        index=choice.index,
        text=choice.text,
        logprobs=choice.logprobs or (),
        reasoning=choice.reasoning or "",
        tool_calls=tuple(calls),
    )
