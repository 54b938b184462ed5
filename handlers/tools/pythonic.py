"""Llama 4, and 3.2: a list of calls as Python writes them, ``[f(a="x", n=1), g()]``. It is read, and never evaluated."""

from __future__ import annotations

import json
import math
import re

from handlers.tools.reader import Malformed, Reader, Step
from handlers.tools.values import JsonValues, escaped, hexadecimal

_START, _END = "<|python_start|>", "<|python_end|>"
_WORDS = {"True": "true", "False": "false", "None": "null", "true": "true", "false": "false", "null": "null"}
_NUMBER = re.compile(r"[-+]?([0-9][0-9_]*)?(\.[0-9]*)?([eE][-+]?[0-9]+)?")
_MAX_CODE = 0x10FFFF


class PythonValues(JsonValues):
    """Python's literals, said as JSON: both quotes, its escapes, its words, its ways of writing numbers."""

    quotes = "\"'"
    plain = re.compile(r"""[^"'\\\x00-\x1f]+""")
    escapes = {letter: "\\" + letter for letter in '"\\bfnrt'} | {
        "'": "'",
        "a": "\\u0007",
        "v": "\\u000b",
        "0": "\\u0000",
        "\n": "",
    }

    def escape(self, r: Reader) -> Step[str]:
        letter = yield from r.peek()
        digits = {"x": 2, "U": 8}.get(letter)
        if digits is None:
            return (yield from super().escape(r))
        r.take()
        code = int((yield from hexadecimal(r, digits)), 16)
        if code > _MAX_CODE:
            raise Malformed
        return json.dumps(chr(code))[1:-1]

    def scalar(self, text: str) -> str:
        if text in _WORDS:
            return _WORDS[text]
        if not _NUMBER.fullmatch(text) or not any(map(str.isdigit, text)):
            raise Malformed
        try:
            return str(int(text)) if text.lstrip("+-").replace("_", "").isdigit() else _float(text)
        except ValueError:
            raise Malformed from None


PYTHON = PythonValues()


class Pythonic:
    marks = (_START,)
    starts = ("[",)
    tokens = (_START, _END)

    def calls(self, r: Reader, mark: str) -> Step[None]:
        if mark == _START:
            yield from r.expect("[")
        separator = ","
        while separator == ",":
            yield from self._call(r)
            yield from r.skip_space()
            separator = yield from r.peek()
            if separator not in (",", "]"):
                raise Malformed
            r.take()
        yield from r.skip_space()
        yield from r.accept(_END)

    def _call(self, r: Reader) -> Step[None]:
        yield from r.skip_space()
        name = yield from r.word()
        yield from r.expect("(")
        yield from r.skip_space()
        if (yield from r.accept(")")):
            r.start(name)
            r.argue("{}")
        else:
            key = yield from self._key(r)
            r.start(name)
            yield from self._arguments(r, key)
        r.close()

    def _arguments(self, r: Reader, key: str) -> Step[None]:
        r.argue("{" + key)
        yield from PYTHON.value(r, r.argue)
        while not (yield from self._closed(r)):
            yield from r.expect(",")
            if (yield from self._closed(r)):
                break
            key = yield from self._key(r)
            r.argue(", " + key)
            yield from PYTHON.value(r, r.argue)
        r.argue("}")

    def _closed(self, r: Reader) -> Step[bool]:
        yield from r.skip_space()
        return (yield from r.accept(")"))

    def _key(self, r: Reader) -> Step[str]:
        yield from r.skip_space()
        key = yield from r.word()
        yield from r.expect("=")
        yield from r.skip_space()
        return f'"{escaped(key)}": '


def _float(text: str) -> str:
    number = float(text)
    if not math.isfinite(number):
        raise Malformed
    return json.dumps(number)
