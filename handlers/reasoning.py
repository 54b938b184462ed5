"""Splitting what a model thinks from what it says.

Which marks a model uses is its ``options.reasoning_parser`` (a key of ``STYLES``, or ``none``), or the first of ``STYLES``
whose closing mark stands in its chat template. A block counts at the beginning of an answer only, and there is one. Where the
template itself opens it in the prompt, the answer begins inside. White space around it and within its edges is left out.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeAlias

from msgspec import Struct

from handlers.tools.events import Text


class Marks(Struct, frozen=True):
    open: str
    close: str


STYLES: dict[str, Marks] = {
    "think": Marks("<think>", "</think>"),
    "thinking": Marks("<thinking>", "</thinking>"),
    "mistral": Marks("[THINK]", "[/THINK]"),
    "cohere": Marks("<|START_THINKING|>", "<|END_THINKING|>"),
    "seed": Marks("<seed:think>", "</seed:think>"),
}


def guess(template: str) -> str | None:
    return next((name for name, marks in STYLES.items() if marks.close in template), None)


class Thought(Struct, frozen=True):
    """Words that are not meant as the answer."""

    text: str


Said: TypeAlias = Thought | Text


class ReasoningParser:
    """Reads one answer.

    Args:
        opened: the prompt ends with the opening mark.

    Attributes:
        spent: bytes of the model's own text that belong to its reasoning, the marks included.
    """

    def __init__(self, marks: Marks, *, opened: bool = False) -> None:
        self._marks = marks
        self._opened = opened
        self._held = ""
        self._ended = False
        self._said: list[Said] = []
        self._reading = self._read()
        self.spent = 0

    def feed(self, text: str) -> list[Said]:
        self._held += text
        return self._go_on()

    def finish(self) -> list[Said]:
        """What was still held back."""
        self._ended = True
        return self._go_on()

    def _go_on(self) -> list[Said]:
        next(self._reading, None)
        said, self._said = self._said, []
        return said

    def _read(self) -> Generator[None, None, None]:
        if (yield from self._begins()):
            yield from self._skip_space()
            yield from self._think()
            counted = self.spent
            yield from self._skip_space()
            self.spent = counted
        while True:
            if self._held:
                self._said.append(Text(self._held))
                self._held = ""
            yield

    def _begins(self) -> Generator[None, None, bool]:
        """Wait until it is clear whether the answer begins with the block."""
        while not (words := self._held.lstrip()).startswith(self._marks.open):
            if self._ended or not self._marks.open.startswith(words):
                return self._opened
            yield
        self._cut(len(self._held) - len(words) + len(self._marks.open))
        return True

    def _think(self) -> Generator[None, None, None]:
        while (end := self._held.find(self._marks.close)) < 0 and not self._ended:
            self._show(_certain(self._held, self._marks.close))
            yield
        self._show(len((self._held if end < 0 else self._held[:end]).rstrip()))
        self._cut(len(self._held) if end < 0 else self._held.index(self._marks.close) + len(self._marks.close))

    def _skip_space(self) -> Generator[None, None, None]:
        while not self._held.strip() and not self._ended:
            yield
        self._cut(len(self._held) - len(self._held.lstrip()))

    def _show(self, end: int) -> None:
        if thought := self._cut(end):
            self._said.append(Thought(thought))

    def _cut(self, end: int) -> str:
        """Take the first ``end`` characters of what is held."""
        cut, self._held = self._held[:end], self._held[end:]
        self.spent += len(cut.encode(errors="replace"))
        return cut


def _certain(text: str, mark: str) -> int:
    """How many characters are neither white space at the end nor the beginning of ``mark``."""
    held = next((n for n in range(min(len(mark) - 1, len(text)), 0, -1) if text.endswith(mark[:n])), 0)
    return len(text[: len(text) - held].rstrip())
