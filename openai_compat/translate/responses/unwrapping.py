"""The input of a custom tool, out of the function's arguments that a chat has it in: ``{"input": "…"}``, piece by piece.

However the pieces are cut, what comes out is the same. Arguments of another shape are the input as they are.
"""

from __future__ import annotations

import re

_LONGEST_HEAD = 256
_HEAD = re.compile(r'\s*\{\s*"input"\s*:\s*"')
_PLAIN = re.compile(r'[^"\\]+')
_HEX = re.compile(r"[0-9a-fA-F]{4}")
_SIMPLE = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_UNICODE = 6  # characters of \uXXXX
_EMPTY = re.compile(r"\s*(\{\s*\}\s*)?")
_HIGH, _LOW, _BEYOND = 0xD800, 0xDC00, 0xE000
_UNKNOWN = "\ufffd"


class Unwrapping:
    """Each ``feed`` gives what is new; ``rest`` gives what was held back, when all has come."""

    def __init__(self) -> None:
        self._held = ""
        self._state = "head"

    def feed(self, piece: str) -> str:
        if self._state == "raw":
            return piece
        if self._state == "after":
            return ""
        self._held += piece
        if self._state == "text":
            return self._decode()
        head = _HEAD.match(self._held)
        if head is not None:
            self._held, self._state = self._held[head.end() :], "text"
            return self._decode()
        if _may_begin(self._held):
            return ""
        self._state = "raw"
        return self._take()

    def rest(self) -> str:
        if self._state == "head":
            return "" if _EMPTY.fullmatch(self._held) else self._take()
        return _UNKNOWN if self._state == "text" and _is_high(self._held) else ""

    def _take(self) -> str:
        held, self._held = self._held, ""
        return held

    def _decode(self) -> str:
        """What is whole of the text that is held."""
        out: list[str] = []
        text, place = self._held, 0
        while place < len(text):
            if plain := _PLAIN.match(text, place):
                out.append(plain[0])
                place = plain.end()
            elif text[place] == '"':
                self._state = "after"
                place = len(text)
            elif (escape := _escape(text, place)) is not None:
                character, place = escape
                out.append(character)
            else:
                break
        self._held = text[place:]
        return "".join(out)


def _may_begin(text: str) -> bool:
    """Whether the head may still become what it should be."""
    if len(text) > _LONGEST_HEAD:
        return False
    return "".join(text.split()) in '{"input":"' or bool(_EMPTY.fullmatch(text))


def _escape(text: str, place: int) -> tuple[str, int] | None:
    """The character, and where it ends; None where more must come first. A sign that escapes nothing stays."""
    if place + 1 >= len(text):
        return None
    sign = text[place + 1]
    if sign != "u":
        return _SIMPLE.get(sign, "\\" + sign), place + 2
    end = place + _UNICODE
    if len(text) < end:
        return None
    code = _code(text, place)
    if code is None:
        return "\\u", place + 2
    if not _HIGH <= code < _BEYOND:
        return chr(code), end
    return (_UNKNOWN, end) if code >= _LOW else _pair(text, code, end)


def _pair(text: str, high: int, end: int) -> tuple[str, int] | None:
    """A high surrogate and what follows it; without its low one it is no character."""
    if not text.startswith("\\u", end):
        more = len(text) == end or (len(text) == end + 1 and text[end] == "\\")
        return None if more else (_UNKNOWN, end)
    if len(text) < end + _UNICODE:
        return None
    low = _code(text, end)
    if low is None or not _LOW <= low < _BEYOND:
        return _UNKNOWN, end
    return chr(0x10000 + ((high - _HIGH) << 10) + (low - _LOW)), end + _UNICODE


def _code(text: str, place: int) -> int | None:
    digits = _HEX.fullmatch(text, place + 2, place + _UNICODE)
    return None if digits is None else int(digits[0], 16)


def _is_high(text: str) -> bool:
    return len(text) >= _UNICODE and _HIGH <= (_code(text, 0) or 0) < _LOW
