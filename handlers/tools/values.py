"""JSON values read as they come. What is passed on is JSON, whatever small liberties the model took."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TypeAlias

from handlers.tools.reader import Malformed, Reader, Step

Say: TypeAlias = Callable[[str], None]
MAX_DEPTH = 64
_LONGEST_SCALAR = 512
_SCALAR = re.compile(r"[-+.\w]+")
_VALID = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?|true|false|null")
_HEX = re.compile(r"[0-9a-fA-F]+")


class JsonValues:
    """Reads one value after another and says its text in pieces; each method raises ``Malformed``.

    Two faults that models often make are mended: a line break within a string, and an escape that JSON does not have.
    """

    quotes = '"'
    plain = re.compile(r'[^"\\\x00-\x1f]+')
    escapes = {letter: "\\" + letter for letter in '"\\/bfnrt'} | {"'": "'"}

    def value(self, r: Reader, say: Say, depth: int = 0) -> Step[None]:
        char = yield from r.peek()
        if depth > MAX_DEPTH:
            raise Malformed
        if char == "{":
            yield from self._items(r, say, "}", self._member, depth + 1)
        elif char == "[":
            yield from self._items(r, say, "]", self.value, depth + 1)
        elif char and char in self.quotes:
            yield from self.string(r, say)
        else:
            say(self.scalar((yield from _scalar(r))))

    def string(self, r: Reader, say: Say) -> Step[None]:
        quote = yield from r.peek()
        if not quote or quote not in self.quotes:
            raise Malformed
        r.take()
        say('"')
        while (char := (yield from r.peek())) != quote:
            if char == "\\":
                r.take()
                say((yield from self.escape(r)))
            elif not char:
                raise Malformed
            else:
                say(r.run(self.plain) or escaped(r.take()))
        r.take()
        say('"')

    def escape(self, r: Reader) -> Step[str]:
        """What an escape stands for, as JSON; the backslash has been read."""
        letter = yield from r.peek()
        if not letter:
            raise Malformed
        r.take()
        if letter == "u":
            return "\\u" + (yield from hexadecimal(r, 4))
        return self.escapes.get(letter, "\\\\" + escaped(letter))

    def scalar(self, text: str) -> str:
        """A number or a word, as JSON."""
        if not _VALID.fullmatch(text):
            raise Malformed
        return text

    def _member(self, r: Reader, say: Say, depth: int) -> Step[None]:
        yield from self.string(r, say)
        yield from self._space(r, say)
        if (yield from r.peek()) != ":":
            raise Malformed
        say(r.take())
        yield from self._space(r, say)
        yield from self.value(r, say, depth)

    def _items(self, r: Reader, say: Say, close: str, item: Callable[[Reader, Say, int], Step[None]], depth: int) -> Step[None]:
        say(r.take())
        yield from self._space(r, say)
        if (yield from r.peek()) != close:
            yield from item(r, say, depth)
            yield from self._space(r, say)
            while (yield from r.peek()) == ",":
                say(r.take())
                yield from self._space(r, say)
                yield from item(r, say, depth)
                yield from self._space(r, say)
        if (yield from r.peek()) != close:
            raise Malformed
        say(r.take())

    def _space(self, r: Reader, say: Say) -> Step[None]:
        while (char := (yield from r.peek())) and char in " \t\r\n":
            say(r.take())


JSON = JsonValues()


def escaped(text: str) -> str:
    """``text`` as it stands within a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def hexadecimal(r: Reader, digits: int) -> Step[str]:
    found = ""
    while len(found) < digits and _HEX.match((yield from r.peek())):
        found += r.take()
    if len(found) < digits:
        raise Malformed
    return found


def _scalar(r: Reader) -> Step[str]:
    text = ""
    while _SCALAR.match((yield from r.peek())) and len(text) <= _LONGEST_SCALAR:
        text += r.run(_SCALAR)
    return text
