"""The text of an answer as a parser reads it: piece by piece, with everything that is not understood yet held back.

Parsers are generators: one that needs more text yields, and goes on where it was. So a dialect reads like a parser of a whole
text, and cutting the text elsewhere cannot change what it sees.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from functools import lru_cache
from typing import TypeAlias, TypeVar

from handlers.tools.events import CallArguments, CallEnd, CallStart, Event, Text, joined

T = TypeVar("T")
Step: TypeAlias = Generator[None, None, T]
_SPACE = re.compile(r"\s+")
_WORD = re.compile(r"[\w.:-]+")
_LONGEST_WORD = 256


class Malformed(Exception):
    """The text is no call after all. The reader stands where it stopped being one."""


class Reader:
    """Holds what is not decided yet, and collects the events.

    White space around calls is nobody's words: it is left out at the beginning of an answer that goes on with a call, between
    calls, and behind the last one.

    Args:
        names: the tools that were offered; nothing else can be called.
    """

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._buffer = ""
        self._kept = 0
        self._position = 0
        self._ended = False
        self._events: list[Event] = []
        self._space = ""
        self._blank = True
        self._calling = False
        self._called = False

    # ------------------------------------------------------------ text in, events out

    def push(self, text: str) -> None:
        self._buffer = self._buffer[self._kept :] + text
        self._position -= self._kept
        self._kept = 0

    def end(self) -> None:
        self._ended = True

    def drain(self) -> list[Event]:
        """What was seen since the last look."""
        if self._ended and not self._called:
            self._events.append(Text(self._space))
            self._space = ""
        events, self._events = self._events, []
        return [event for event in joined(events) if event != Text("")]

    # ------------------------------------------------------------ reading

    def peek(self) -> Step[str]:
        """The next character, or nothing at the end."""
        while self._position >= len(self._buffer) and not self._ended:
            yield
        return self._buffer[self._position : self._position + 1]

    def take(self) -> str:
        """The character that was peeked at."""
        self._position += 1
        return self._buffer[self._position - 1]

    def back(self, text: str) -> None:
        """Unread ``text``, which was read last."""
        self._position -= len(text)

    def run(self, pattern: re.Pattern[str]) -> str:
        """As much as there is by now of what fits."""
        found = pattern.match(self._buffer, self._position)
        if found is None:
            return ""
        self._position = found.end()
        return found[0]

    def skip_space(self) -> Step[None]:
        while (yield from self.peek()).isspace():
            self.run(_SPACE)

    def accept(self, mark: str) -> Step[bool]:
        """Take ``mark`` if it is next."""
        while not self._ended and len(self._buffer) - self._position < len(mark) and self._could_be(mark):
            yield
        if not self._buffer.startswith(mark, self._position):
            return False
        self._position += len(mark)
        return True

    def expect(self, mark: str) -> Step[None]:
        """Take ``mark`` and the white space before it. Raises ``Malformed``."""
        yield from self.skip_space()
        if not (yield from self.accept(mark)):
            raise Malformed

    def word(self) -> Step[str]:
        """A name. Raises ``Malformed`` where there is none."""
        word = ""
        while _WORD.match((yield from self.peek())) and len(word) <= _LONGEST_WORD:
            word += self.run(_WORD)
        if not 0 < len(word) <= _LONGEST_WORD:
            raise Malformed
        return word

    def text_until(self, marks: tuple[str, ...], starts: tuple[str, ...]) -> Step[str]:
        """Pass text on until an opening comes, which is taken and returned; nothing at the end.

        ``marks`` open wherever they stand, ``starts`` only where nothing but white space was said since the beginning or since
        the last call.
        """
        while char := (yield from self.peek()):
            if self._blank and char.isspace():
                self.run(_SPACE)
                self._flush()
                continue
            for mark in (*marks, *starts) if self._blank else marks:
                if (yield from self.accept(mark)):
                    return mark
            self._position += 1
            self.run(_without_beginnings(marks))
            self._flush()
        return ""

    def _could_be(self, mark: str) -> bool:
        return mark.startswith(self._buffer[self._position :])

    # ------------------------------------------------------------ saying

    def start(self, name: str) -> None:
        """Raises ``Malformed`` for a tool that was not offered."""
        if name not in self._names:
            raise Malformed
        self._events.append(CallStart(name))
        self._space = ""
        self._calling = self._called = True
        self.commit()

    def argue(self, piece: str) -> None:
        self._events.append(CallArguments(piece))
        self.commit()

    def close(self) -> None:
        self._events.append(CallEnd())
        self._calling = False
        self._blank = True
        self.commit()

    def commit(self) -> None:
        """Nothing before here will be needed again."""
        self._kept = self._position

    def release(self) -> None:
        """Give out what was held back: it was no call. Of a call that had begun, only the rest is text."""
        raw = self._buffer[self._kept : self._position]
        if self._calling:
            if self._ended:
                self.argue(raw)
                raw = ""
            self.close()
        self._say(raw)
        self.commit()

    def _flush(self) -> None:
        self._say(self._buffer[self._kept : self._position])
        self.commit()

    def _say(self, text: str) -> None:
        if self._blank and text.isspace():
            self._space += text
        elif text:
            self._events.append(Text(self._space + text))
            self._space = ""
            self._blank = False


@lru_cache(maxsize=64)
def _without_beginnings(marks: tuple[str, ...]) -> re.Pattern[str]:
    letters = "".join(re.escape(letter) for letter in sorted({mark[0] for mark in marks}))
    return re.compile(f"[^{letters}]*" if letters else r"(?s:.*)")
