"""Finding a model's tool calls in what it writes, while it writes.

Which dialect a model speaks is its ``options.tool_parser``, or guessed from its chat template (``guess``). A call is passed on
as it comes; text that might begin one is held back until it is clear, and given out unchanged where it is none. A call that
breaks off or goes wrong before its arguments is text; one that goes wrong within them ends there, and the rest is text.
"""

from __future__ import annotations

from typing import Protocol

from handlers.tools.bare_json import BareJson
from handlers.tools.deepseek import DeepSeek
from handlers.tools.events import Event
from handlers.tools.hermes import Hermes
from handlers.tools.llama_json import LlamaJson
from handlers.tools.mistral import Mistral
from handlers.tools.pythonic import Pythonic
from handlers.tools.reader import Malformed, Reader, Step


class Dialect(Protocol):
    """How one family of models writes calls.

    Attributes:
        marks: what opens calls wherever it stands.
        starts: what may open them at the beginning of an answer only.
        tokens: the marks that may be tokens of their own, and would be left out of the text as such.
    """

    @property
    def marks(self) -> tuple[str, ...]: ...
    @property
    def starts(self) -> tuple[str, ...]: ...
    @property
    def tokens(self) -> tuple[str, ...]: ...

    def calls(self, r: Reader, mark: str) -> Step[None]:
        """Read calls; their opening has been taken. Raises ``Malformed``."""


FALLBACK = "hermes"
DIALECTS: dict[str, tuple[Dialect, ...]] = {
    "hermes": (Hermes(), BareJson()),
    "llama3_json": (LlamaJson(), BareJson()),
    "pythonic": (Pythonic(),),
    "mistral": (Mistral(),),
    "deepseek": (DeepSeek(),),
    "json": (BareJson(),),
}
_SIGNS = (
    ("mistral", ("[TOOL_CALLS]",)),
    ("deepseek", ("<｜tool▁calls▁begin｜>",)),
    ("hermes", ("<tool_call>",)),
    ("pythonic", ("[func_name1(",)),
    ("pythonic", ("<|python_start|>",)),
    ("llama3_json", ("<|start_header_id|>", '"parameters"')),
    ("llama3_json", ("<|python_tag|>",)),
)


def guess(template: str) -> str:
    """The dialect of the first line of the table whose signs all stand in the template; Hermes, which the fallback prompt
    asks for, where none does.
    """
    return next((name for name, signs in _SIGNS if all(sign in template for sign in signs)), FALLBACK)


class ToolParser:
    """Reads one answer.

    Args:
        dialect: a key of ``DIALECTS``.
        names: the tools that were offered.
    """

    def __init__(self, dialect: str, names: frozenset[str]) -> None:
        self._reader = Reader(names)
        speakers = DIALECTS[dialect]
        self._openings = {mark: speaker for speaker in reversed(speakers) for mark in (*speaker.starts, *speaker.marks)}
        self._marks = tuple(mark for speaker in speakers for mark in speaker.marks)
        self._starts = tuple(start for speaker in speakers for start in speaker.starts)
        self._reading = self._read()

    def feed(self, text: str) -> list[Event]:
        self._reader.push(text)
        next(self._reading, None)
        return self._reader.drain()

    def finish(self) -> list[Event]:
        """What was still held back."""
        self._reader.end()
        next(self._reading, None)
        return self._reader.drain()

    def _read(self) -> Step[None]:
        while mark := (yield from self._reader.text_until(self._marks, self._starts)):
            try:
                yield from self._openings[mark].calls(self._reader, mark)
                self._reader.commit()
            except Malformed:
                self._reader.release()


def tokens_of(dialect: str) -> tuple[str, ...]:
    return tuple(token for speaker in DIALECTS[dialect] for token in speaker.tokens)
