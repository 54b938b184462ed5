"""The content blocks of an answer, one after another, as events."""

from __future__ import annotations

from typing import Any

import msgspec

from openai_compat.translate.anthropic.signatures import signature_of
from schemas.anthropic_answers import (
    BlockDelta,
    BlockStart,
    BlockStop,
    InputPiece,
    SaidBlock,
    SaidText,
    SaidThinking,
    SaidToolUse,
    SignaturePiece,
    StreamEvent,
    TextPiece,
    ThinkingPiece,
)

Events = list[StreamEvent]


class Blocks:
    """At most one block is open. Every method returns the events that it makes.

    Args:
        carries_thinking: thoughts are not shown, but travel in their signature.
    """

    def __init__(self, *, carries_thinking: bool) -> None:
        self._carries = carries_thinking
        self._index = -1
        self._open: SaidBlock | None = None
        self._thoughts: list[str] = []

    def text(self, text: str) -> Events:
        begun = [] if isinstance(self._open, SaidText) else self._begin(SaidText(text=""))
        return [*begun, BlockDelta(index=self._index, delta=TextPiece(text=text))]

    def thinking(self, text: str) -> Events:
        begun = [] if isinstance(self._open, SaidThinking) else self._begin(SaidThinking(thinking="", signature=""))
        self._thoughts.append(text)
        return begun if self._carries else [*begun, BlockDelta(index=self._index, delta=ThinkingPiece(thinking=text))]

    def tool(self, id: str, name: str) -> Events:
        return self._begin(SaidToolUse(id=id, name=name, input={}))

    def arguments(self, text: str) -> Events:
        """Of the tool that was begun last."""
        return [BlockDelta(index=self._index, delta=InputPiece(partial_json=text))] if text else []

    def end(self) -> Events:
        """Close what is open."""
        block, self._open = self._open, None
        if block is None:
            return []
        stop = BlockStop(index=self._index)
        if not isinstance(block, SaidThinking):
            return [stop]
        thoughts, self._thoughts = "".join(self._thoughts), []
        signature = signature_of(thoughts, carried=self._carries)
        return [BlockDelta(index=self._index, delta=SignaturePiece(signature=signature)), stop]

    def _begin(self, block: SaidBlock) -> Events:
        closed = self.end()
        self._index += 1
        self._open = block
        return [*closed, BlockStart(index=self._index, content_block=block)]


def assembled(events: Events) -> list[SaidBlock]:
    """The blocks that a client would put together of a stream's events."""
    blocks: list[SaidBlock] = []
    pieces: list[str] = []
    signature = ""
    for event in events:
        if isinstance(event, BlockStart):
            blocks.append(event.content_block)
            pieces, signature = [], ""
        elif isinstance(event, BlockDelta):
            delta = event.delta
            if isinstance(delta, SignaturePiece):
                signature = delta.signature
            else:
                pieces.append(_said(delta))
        elif isinstance(event, BlockStop):
            blocks[-1] = _whole(blocks[-1], "".join(pieces), signature)
    return blocks


def input_of(arguments: str) -> dict[str, Any]:
    """A call that was cut off has no input yet, and nonsense is none."""
    try:
        found = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return {}
    return found if isinstance(found, dict) else {}


def _said(piece: TextPiece | ThinkingPiece | InputPiece) -> str:
    match piece:
        case TextPiece(text=text) | ThinkingPiece(thinking=text) | InputPiece(partial_json=text):
            return text


def _whole(block: SaidBlock, said: str, signature: str) -> SaidBlock:
    if isinstance(block, SaidText):
        return SaidText(text=said)
    if isinstance(block, SaidThinking):
        return SaidThinking(thinking=said, signature=signature)
    return SaidToolUse(id=block.id, name=block.name, input=input_of(said))
