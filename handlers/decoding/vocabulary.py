"""What each token id stands for, as bytes: text is put together from these, never from half a code point."""

from __future__ import annotations

import json
import re
from functools import cache, lru_cache
from typing import Any, Literal

Style = Literal["bytes", "pieces", "words"]
_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "▁"
KEPT = 1024
"""Tokens whose bytes are known at once: most of any text. A whole vocabulary would be filled over many hours, one rare token
after the other, with some 125 bytes for each; to spell one again takes microseconds.
"""


class Vocabulary:
    """The ids of one tokenizer.

    ``style`` says how ids become text: byte-level BPE (``bytes``), SentencePiece pieces with byte fallback (``pieces``), or
    anything else (``words``), whose text depends on the neighbours and is decoded by the tokenizer itself.

    Attributes:
        special: ids of control tokens; a client's text never becomes one.
        hidden: those that are never part of an answer's text.
        longest: bytes of the longest token, at least 1.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        added = getattr(tokenizer, "added_tokens_decoder", {})
        self._added = {number: token.content for number, token in added.items()}
        self.special = frozenset(tokenizer.all_special_ids) | {n for n, token in added.items() if token.special}
        self.special_texts = tuple(sorted({self._content(n) for n in self.special} - {""}, key=len, reverse=True))
        self.hidden = self.special
        self.style = _style(tokenizer)
        self.longest = max((len(piece.encode()) for piece in tokenizer.get_vocab()), default=1)
        self._spelled = lru_cache(maxsize=KEPT)(self._spell)

    def show(self, texts: tuple[str, ...]) -> None:
        """Let control tokens of these texts be part of answers: what reads the answers needs them."""
        self.hidden = frozenset(number for number in self.special if self._content(number) not in texts)

    def shown_size(self, number: int) -> int:
        """How many bytes a token adds to an answer's text."""
        return 0 if number in self.hidden else len(self.token_bytes(number))

    def token_bytes(self, number: int) -> bytes:
        """The UTF-8 bytes of one token; empty for an id that the tokenizer does not have."""
        return self._spelled(number)

    def token_text(self, number: int) -> str:
        """The token for people to read; bytes that are no text of their own become U+FFFD."""
        return self.token_bytes(number).decode(errors="replace")

    def _content(self, number: int) -> str:
        return self._added.get(number) or self.tokenizer.convert_ids_to_tokens(number) or ""

    def _spell(self, number: int) -> bytes:
        if number in self._added:
            return str(self._added[number]).encode()
        if self.style == "words":
            return str(self.tokenizer.decode([number])).encode()
        piece = str(self.tokenizer.convert_ids_to_tokens(number) or "")
        if self.style == "bytes":
            table = _byte_letters()
            return bytes(table[letter] for letter in piece if letter in table)
        match = _BYTE_PIECE.fullmatch(piece)
        return bytes([int(match[1], 16)]) if match else piece.replace(_SPACE, " ").encode()


def _style(tokenizer: Any) -> Style:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    decoder = getattr(backend, "decoder", None)
    if decoder is None:
        return "words"
    kinds = _decoder_kinds(json.loads(decoder.__getstate__()))
    if "ByteLevel" in kinds:
        return "bytes"
    return "pieces" if kinds & {"Metaspace", "ByteFallback"} else "words"


def _decoder_kinds(state: dict[str, Any]) -> set[str]:
    inner = [_decoder_kinds(child) for child in state.get("decoders", ())]
    return {state["type"]}.union(*inner)


@cache
def _byte_letters() -> dict[str, int]:
    """GPT-2's table: each byte is written as one printable letter."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}
