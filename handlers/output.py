"""From a model's text to what it means: reasoning, words, and calls of tools.

``OutputFormat`` is how one model writes them; an ``OutputParser`` reads one choice. It stands between the text that is safe to
show and the deltas that are shown, and what it said is the choice: a whole answer is a stream nobody listened to.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct
from msgspec.structs import replace

from handlers import reasoning
from handlers import types as t
from handlers.reasoning import ReasoningParser, Thought
from handlers.text_modes import RAW_MODE
from handlers.tools import parser as tools
from handlers.tools.events import CallArguments, CallEnd, CallStart, Event, Text
from handlers.tools.parser import ToolParser
from openai_compat.errors import ModelUnavailable

if TYPE_CHECKING:
    from handlers.chat_template import ChatTemplate

_OFF = "none"
_BARE_DIALECT = "json"


class OutputFormat(Struct, frozen=True, kw_only=True):
    """How one model writes. ``dialect`` is a key of ``handlers.tools.parser.DIALECTS``, ``reasoning`` of ``STYLES``."""

    dialect: str = tools.FALLBACK
    reasoning: str | None = None

    @property
    def marks(self) -> tuple[str, ...]:
        """What must be part of the text even where it is a control token."""
        style = reasoning.STYLES.get(self.reasoning or "")
        return tools.tokens_of(self.dialect) + ((style.open, style.close) if style else ())

    @property
    def marks_calls(self) -> bool:
        """Whether calls stand between the marks that ``handlers.tool_grammar`` knows."""
        return self.dialect == tools.FALLBACK

    def parser(self, index: int, request: t.TextRequest, prompt: str = "") -> OutputParser | None:
        """None for an answer that is plain text whatever it holds. ``prompt`` is the text that the answer continues.

        Under a grammar (calls that have to be made, or a format beside them) calls are bare JSON, and there is no reasoning.
        """
        calls = None
        constrained = request.must_call or request.grammar is not None
        if request.offers_tools:
            names = frozenset(tool.name for tool in request.tools)
            calls = ToolParser(_BARE_DIALECT if constrained else self.dialect, names)
        style = None if constrained else reasoning.STYLES.get(self.reasoning or "")
        thoughts = ReasoningParser(style, opened=prompt.rstrip().endswith(style.open)) if style else None
        if request.messages is None or request.mode == RAW_MODE or not (calls or thoughts):
            return None
        return OutputParser(index, thoughts, calls, parallel=request.parallel_tool_calls)


def format_of(options: dict[str, Any], template: ChatTemplate | None) -> OutputFormat:
    """The settings ``tool_parser`` and ``reasoning_parser``, else what the chat template tells.

    A template that does not take tools gets them in the fallback's words, so that the fallback's dialect answers. Raises
    ``ModelUnavailable`` for a setting that there is not.
    """
    dialect = tools.guess(template.source) if template and template.abilities.tools else tools.FALLBACK
    style = reasoning.guess(template.source) if template else None
    return OutputFormat(
        dialect=_setting(options, "tool_parser", dialect, tuple(tools.DIALECTS)) or dialect,
        reasoning=_setting(options, "reasoning_parser", style, (*reasoning.STYLES, _OFF)),
    )


class AnswerReader:
    """Reads all choices of one request, each with a parser of its own, or as they are where the format asks for none."""

    def __init__(self, form: OutputFormat, request: t.TextRequest, prompt: str = "") -> None:
        self._form = form
        self._request = request
        self._prompt = prompt
        self._parsers: dict[int, OutputParser | None] = {}

    def feed(self, piece: Piece) -> Sequence[Piece]:
        """What a piece of plain text turns out to be: itself, or deltas."""
        parser = self._parser(piece.index)
        return (piece,) if parser is None else parser.feed(piece)

    def finish(self, choice: t.TextChoice) -> tuple[list[t.TextDelta], t.TextChoice]:
        """What was held back of a choice, and the choice. One that was not fed piece by piece is read now."""
        unread = choice.index not in self._parsers
        parser = self._parser(choice.index)
        if parser is None:
            return [], choice
        whole = t.TextDelta(index=choice.index, text=choice.text, logprobs=choice.logprobs or ())
        deltas = parser.feed(whole) if unread else []
        return deltas + parser.finish(), parser.choice(choice)

    def _parser(self, index: int) -> OutputParser | None:
        if index not in self._parsers:
            self._parsers[index] = self._form.parser(index, self._request, self._prompt)
        return self._parsers[index]

    def reasoning_tokens(self, index: int, sizes: Iterable[int]) -> int:
        """How many of a choice's tokens are reasoning; ``sizes`` are their bytes."""
        parser = self._parsers.get(index)
        left, count = parser.spent if parser else 0, 0
        for size in sizes:
            if left <= 0:
                break
            left -= size
            count += 1
        return count


def _setting(options: dict[str, Any], name: str, guessed: str | None, known: tuple[str, ...]) -> str | None:
    value = options.get(name, guessed)
    if name in options and value not in known:
        raise ModelUnavailable(f"options.{name} is not one of: {', '.join(known)}.")
    return value


class Piece(Protocol):
    """Text of one choice that is safe to show, with the log probabilities of its tokens."""

    @property
    def index(self) -> int: ...
    @property
    def text(self) -> str: ...
    @property
    def logprobs(self) -> tuple[t.TokenLogprob, ...]: ...


class OutputParser:
    """Reads one choice, piece by piece.

    Log probabilities go out with the first delta at or behind their piece. With ``parallel`` off the answer ends with its first
    call: what the model wrote behind it is left out.
    """

    def __init__(
        self, index: int, thoughts: ReasoningParser | None = None, calls: ToolParser | None = None, *, parallel: bool = True
    ) -> None:
        self._index = index
        self._thoughts = thoughts
        self._calls = calls
        self._parallel = parallel
        self._words: list[str] = []
        self._reasoning: list[str] = []
        self._ids: list[str] = []
        self._names: list[str] = []
        self._arguments: list[list[str]] = []
        self._logprobs: tuple[t.TokenLogprob, ...] = ()
        self._done = False

    @property
    def spent(self) -> int:
        """Bytes of the model's text that are reasoning."""
        return self._thoughts.spent if self._thoughts else 0

    def feed(self, piece: Piece) -> list[t.TextDelta]:
        """What a piece of plain text turns out to be."""
        said: list[reasoning.Said] = self._thoughts.feed(piece.text) if self._thoughts else [Text(piece.text)]
        return self._deltas(said, piece.logprobs)

    def finish(self) -> list[t.TextDelta]:
        """What was held back until now."""
        said = self._thoughts.finish() if self._thoughts else []
        deltas = self._deltas(said, ())
        if self._calls:
            deltas += self._with_logprobs(self._events(self._calls.finish()), ())
        if self._logprobs:
            deltas.append(t.TextDelta(index=self._index, text="", logprobs=self._logprobs))
        return deltas

    def choice(self, choice: t.TextChoice) -> t.TextChoice:
        """The plain choice with what was found in its text. A cut answer keeps its reason."""
        calls = tuple(
            t.ToolCall(id=identifier, name=name, arguments="".join(pieces))
            for identifier, name, pieces in zip(self._ids, self._names, self._arguments, strict=True)
        )
        return replace(
            choice,
            text="".join(self._words),
            reasoning="".join(self._reasoning) or None,
            tool_calls=calls,
            finish_reason="tool_calls" if calls and choice.finish_reason == "stop" else choice.finish_reason,
        )

    def _deltas(self, said: list[reasoning.Said], logprobs: tuple[t.TokenLogprob, ...]) -> list[t.TextDelta]:
        deltas: list[t.TextDelta] = []
        for piece in said:
            if isinstance(piece, Thought):
                self._reasoning.append(piece.text)
                deltas.append(t.TextDelta(index=self._index, text="", reasoning=piece.text))
            else:
                deltas += self._events(self._calls.feed(piece.text) if self._calls else [piece])
        return self._with_logprobs(deltas, logprobs)

    def _events(self, events: list[Event]) -> list[t.TextDelta]:
        return [delta for event in events if not self._done and (delta := self._delta(event)) is not None]

    def _delta(self, event: Event) -> t.TextDelta | None:
        call = len(self._ids) - 1
        match event:
            case CallStart(name):
                self._ids.append(f"call_{secrets.token_hex(12)}")
                self._names.append(name)
                self._arguments.append([])
                piece = t.ToolCallDelta(index=call + 1, id=self._ids[-1], name=name)
            case CallArguments(text):
                self._arguments[-1].append(text)
                piece = t.ToolCallDelta(index=call, arguments=text)
            case CallEnd():
                self._done = not self._parallel
                return None
            case _:
                self._words.append(event.text)
                return t.TextDelta(index=self._index, text=event.text)
        return t.TextDelta(index=self._index, text="", tool_calls=(piece,))

    def _with_logprobs(self, deltas: list[t.TextDelta], new: tuple[t.TokenLogprob, ...]) -> list[t.TextDelta]:
        self._logprobs += new
        if not deltas or not self._logprobs:
            return deltas
        first, self._logprobs = replace(deltas[0], logprobs=self._logprobs), ()
        return [first, *deltas[1:]]
