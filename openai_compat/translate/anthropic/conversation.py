"""Messages of blocks → messages of a chat.

Neighbours of one side are one message, as Anthropic's models see them. Results of tools come first in it, each a message of its
own; pictures among them follow in the user's, since results are text in a chat. An instruction in mid-conversation is put
among the user's words and stays where it is: at the front it would change the beginning that is found in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import msgspec

from openai_compat.errors import InvalidRequest
from openai_compat.translate.anthropic.content import BLANK_LINE, Piece, Telling, pieces_of
from openai_compat.translate.anthropic.names import shortened
from openai_compat.translate.anthropic.signatures import thoughts_of
from schemas.anthropic_blocks import (
    Block,
    CompactionBlock,
    ContentSource,
    DocumentBlock,
    ImageBlock,
    InputMessage,
    SearchResultBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
)

Origins = list[tuple[str, str]]
_TELLING = (TextBlock, ImageBlock, DocumentBlock, SearchResultBlock)
_REMINDER = "<system-reminder>\n{}\n</system-reminder>"
_PICTURES = "The result is in the pictures that follow."
MOST_BLOCKS = 1 << 15
"""In all messages together: each takes some microseconds in which nobody else is served."""
_ERROR = "Error: "
_ERRORS = ("error", "<tool_use_error", "<error")


class Draft:
    """A chat's message while its pieces come together."""

    def __init__(self, role: Literal["user", "assistant", "tool"], origin: str, call_id: str = "") -> None:
        self.role = role
        self.origin = origin
        self.call_id = call_id
        self.pieces: list[Piece] = []
        self.thoughts: list[str] = []
        self.calls: list[dict[str, Any]] = []

    def written(self) -> dict[str, Any]:
        if self.role == "tool":
            return {"role": "tool", "tool_call_id": self.call_id, "content": _text(self.pieces, BLANK_LINE)}
        if self.role == "user":
            return {"role": "user", "content": self._parts() if self._has_pictures() else _text(self.pieces, BLANK_LINE)}
        message: dict[str, Any] = {"role": "assistant", "content": _text(self.pieces, "") or (None if self.calls else "")}
        if self.thoughts:
            message["reasoning_content"] = "".join(self.thoughts)
        return message | ({"tool_calls": self.calls} if self.calls else {})

    def origins(self, where: str) -> Iterator[tuple[str, str]]:
        """How places in the written message, which stands at ``where``, are called in the client's."""
        yield where, self.origin
        if self._has_pictures():
            for number, (piece, _) in enumerate(self._joined()):
                yield f"{where}.content[{number}]", piece.origin

    def _has_pictures(self) -> bool:
        return any(piece.url for piece in self.pieces)

    def _parts(self) -> list[dict[str, Any]]:
        return [
            {"type": "image_url", "image_url": {"url": piece.url}} if piece.url else {"type": "text", "text": text}
            for piece, text in self._joined()
        ]

    def _joined(self) -> list[tuple[Piece, str]]:
        """Neighbouring words as one: the first piece of each run with the words of all."""
        runs: list[list[Piece]] = []
        for piece in self.pieces:
            if runs and not piece.url and not runs[-1][-1].url:
                runs[-1].append(piece)
            else:
                runs.append([piece])
        return [(run[0], _text(run, BLANK_LINE)) for run in runs]


class Conversation:
    """Attributes:
    instructions: of the messages before the first word of anybody.
    drafts: the messages.
    """

    def __init__(self, messages: list[InputMessage]) -> None:
        """Raises ``InvalidRequest`` naming the field, and what ``pieces_of`` raises."""
        self.instructions: list[str] = []
        self.drafts: list[Draft] = []
        self._called: set[str] = set()
        self._blocks = 0
        last = max((number for number, message in enumerate(messages) if message.role == "user"), default=-1)
        for number, message in enumerate(messages):
            self._read(message, f"messages[{number}]", is_past=number < last)

    def written(self) -> list[dict[str, Any]]:
        return [draft.written() for draft in self.drafts]

    def origins(self, before: int) -> Origins:
        """``before`` messages of the chat stand in front of these."""
        return [pair for number, draft in enumerate(self.drafts, before) for pair in draft.origins(f"messages[{number}]")]

    def _read(self, message: InputMessage, where: str, *, is_past: bool) -> None:
        content = message.content or ()
        blocks: list[tuple[Block, str]] = []
        if isinstance(content, str):
            blocks.append((TextBlock(text=content), f"{where}.content"))
        else:
            self._count(content)
            blocks += [(block, f"{where}.content[{number}]") for number, block in enumerate(content)]
        if message.role == "system":
            if not (is_past and message.clear_at == "next_user_message"):
                self._instruct(blocks, where)
            return
        for block, place in blocks:
            if message.role == "assistant":
                self._answer(block, place, where)
            else:
                self._tell(block, place, where)

    def _count(self, blocks: Sequence[Block]) -> None:
        self._blocks += sum(map(_size, blocks))
        if self._blocks > MOST_BLOCKS:
            raise InvalidRequest(f"All messages together may hold {MOST_BLOCKS} blocks.", param="messages")

    def _instruct(self, blocks: list[tuple[Block, str]], where: str) -> None:
        text = BLANK_LINE.join(block.text for block, _ in blocks if isinstance(block, TextBlock) and block.text)
        if text and not self.drafts:
            self.instructions.append(text)
        elif text:
            self._side("user", where).pieces.append(Piece(origin=where, text=_REMINDER.format(text)))

    def _tell(self, block: Block, place: str, where: str) -> None:
        if isinstance(block, ToolResultBlock):
            self._result(block, place, where)
        elif isinstance(block, _TELLING):
            self._add("user", pieces_of(block, place), where)
        elif isinstance(block, ToolUseBlock):
            raise InvalidRequest("A user message cannot call tools.", param=place)

    def _answer(self, block: Block, place: str, where: str) -> None:
        if isinstance(block, ToolUseBlock):
            self._called.add(block.id)
            self._side("assistant", where).calls.append(_call(block))
        elif isinstance(block, ThinkingBlock):
            if thoughts := thoughts_of(block):
                self._side("assistant", where).thoughts.append(thoughts)
        elif isinstance(block, CompactionBlock):
            self._add("assistant", [Piece(origin=place, text=block.content)] if block.content else (), where)
        elif isinstance(block, _TELLING):
            self._add("assistant", (piece for piece in pieces_of(block, place) if piece.text), where)
        elif isinstance(block, ToolResultBlock):
            raise InvalidRequest("An assistant message cannot hold results of tools.", param=place)

    def _add(self, role: Literal["user", "assistant"], pieces: Any, where: str) -> None:
        for piece in pieces:
            self._side(role, where).pieces.append(piece)

    def _side(self, role: Literal["user", "assistant"], where: str) -> Draft:
        """The message that this side is at."""
        if not self.drafts or self.drafts[-1].role != role:
            self.drafts.append(Draft(role, where))
        return self.drafts[-1]

    def _result(self, block: ToolResultBlock, place: str, where: str) -> None:
        if block.tool_use_id not in self._called:
            param = f"{place}.tool_use_id"
            raise InvalidRequest(f"Invalid value for '{param}': no 'tool_use' block before has this id.", param=param)
        draft = Draft("tool", place, block.tool_use_id)
        pieces = list(_results(block, place))
        pictures = [piece for piece in pieces if piece.url]
        draft.pieces = [piece for piece in pieces if piece.text]
        if pictures and not draft.pieces:
            draft.pieces = [Piece(origin=place, text=_PICTURES)]
        if block.is_error:
            draft.pieces = _as_error(draft.pieces, place)
        behind = bool(self.drafts) and self.drafts[-1].role == "user"
        self.drafts.insert(len(self.drafts) - behind, draft)
        self._add("user", pictures, where)


def _size(block: Block) -> int:
    """A block and those in it."""
    match block:
        case ToolResultBlock(content=list() as inner) | DocumentBlock(source=ContentSource(content=list() as inner)):
            return 1 + sum(map(_size, inner))
        case _:
            return 1


def _results(block: ToolResultBlock, place: str) -> Iterator[Piece]:
    content = block.content or ()
    if isinstance(content, str):
        yield Piece(origin=place, text=content)
        return
    for number, part in enumerate(content):
        telling: Telling = part
        yield from pieces_of(telling, f"{place}.content[{number}]")


def _as_error(pieces: list[Piece], place: str) -> list[Piece]:
    """In a chat only the words can tell that a tool has failed."""
    if pieces and pieces[0].text.lstrip().lower().startswith(_ERRORS):
        return pieces
    said = pieces[0].text if pieces else "the tool failed."
    return [Piece(origin=place, text=_ERROR + said), *pieces[1:]]


def _call(block: ToolUseBlock) -> dict[str, Any]:
    try:
        arguments = msgspec.json.encode(block.input or {}).decode()
    except RecursionError:
        raise InvalidRequest("The JSON of the request body is nested too deeply.", code="invalid_json") from None
    return {"id": block.id, "type": "function", "function": {"name": shortened(block.name), "arguments": arguments}}


def _text(pieces: list[Piece], between: str) -> str:
    return between.join(piece.text for piece in pieces if piece.text)
