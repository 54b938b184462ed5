"""Texts as a model's tokens, and back."""

from __future__ import annotations

from msgspec import Struct

from handlers.types.facts import Usage
from handlers.types.text import TextRequest


class TokenRequest(Struct, frozen=True, kw_only=True):
    """What is to become tokens: a ``chat``, as it would be answered, or a ``text``; or ``ids`` that are to become a text again.

    ``start``: put before and behind a text what the tokenizer puts there. ``spelled``: tell each token's text, too.
    """

    chat: TextRequest | None = None
    text: str | None = None
    ids: tuple[int, ...] = ()
    start: bool = True
    spelled: bool = False
    mode: str | None = None


class TokenResult(Struct, frozen=True, kw_only=True):
    """``pieces`` are the tokens as the vocabulary spells them; ``context_length`` is in tokens, None where there is no limit.

    Nothing was computed, so there is no usage.
    """

    ids: tuple[int, ...]
    text: str
    pieces: tuple[str, ...] | None = None
    context_length: int | None = None
    usage: Usage = Usage()
