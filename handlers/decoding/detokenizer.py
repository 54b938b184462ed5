"""Token ids to text, one by one, in time that does not grow with the text."""

from __future__ import annotations

import codecs
from typing import Protocol

from handlers.decoding.vocabulary import Vocabulary


class Detokenizer(Protocol):
    def feed(self, number: int) -> str:
        """The text that is certain with this token; empty while a code point is incomplete."""


class ByteDetokenizer:
    """Joins the tokens' bytes. A code point that is never completed is never shown; bytes that can be no text are U+FFFD."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, number: int) -> str:
        if number in self._vocabulary.hidden:
            return ""
        return self._decoder.decode(self._vocabulary.token_bytes(number))


class WindowDetokenizer:
    """Decodes the last few tokens twice, with and without the new one, for tokenizers whose text depends on the neighbours."""

    _WINDOW = 8

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._ids: list[int] = []

    def feed(self, number: int) -> str:
        if number in self._vocabulary.hidden:
            return ""
        before = self._decode()
        self._ids.append(number)
        after = self._decode()
        self._ids = self._ids[-self._WINDOW :]
        return after[len(before) :]

    def _decode(self) -> str:
        return str(self._vocabulary.tokenizer.decode(self._ids)) if self._ids else ""


def detokenizer(vocabulary: Vocabulary) -> Detokenizer:
    return WindowDetokenizer(vocabulary) if vocabulary.style == "words" else ByteDetokenizer(vocabulary)
