"""Tokens where nobody counts them: from bytes, and marked as what they are.

Four bytes of a request are a token, as of English text; a picture or a sound inside a JSON body counts as one flat number. An
event of a stream is a token in about two hundred bytes, most of which say nothing.
"""

from __future__ import annotations

import contextlib
import math
import re
import string
from typing import Any

from openai_compat.gateway.order import Envelope

DEFAULT_COMPLETION = 1024
"""Tokens that are reserved for an answer where the request names no limit."""
MEDIUM = 1000
"""Tokens that a picture or a sound in a JSON body counts as."""
_TOKEN = 4
_EVENT = 200
_BLOB = 4096  # bytes from which a string without a gap is no text
_SAMPLE = 1024
_LONG_STRINGS = re.compile(b'[^"]{%d,}' % _BLOB)  # not split at every quote: there may be as many of them as bytes
_HEAD = 128  # bytes in which a data URL says what it is
_BASE64 = (string.ascii_letters + string.digits + "+/=-_\\").encode()
_MOST_CHOICES = 128
_MOST_TOKENS = 1 << 40
_LONGEST_NUMBER = 32
_GENERATING = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages")
_READING = ("/v1/embeddings", "/v1/rerank", "/v1/moderations")


def prompt_tokens(path: str, body: bytes) -> int:
    """About how many tokens a JSON body holds; 0 where the model does not read text from it."""
    if not path.startswith(_GENERATING) and not path.startswith(_READING):
        return 0
    if len(body) < _BLOB:
        return -(-len(body) // _TOKEN)
    text, media = len(body), 0
    for part in _LONG_STRINGS.finditer(body):
        start, end = part.span()
        if not body[start + _HEAD : start + _HEAD + _SAMPLE].translate(None, _BASE64):
            media += 1
            text -= end - start + 1
    return -(-text // _TOKEN) + media * MEDIUM


def most_completion_tokens(path: str, envelope: Envelope) -> int:
    """What a request may be answered with at most, or the default; of all its choices together. Not every target knows all
    names of the limit, so the largest counts.
    """
    if not path.startswith(_GENERATING):
        return 0
    most = -1
    for asked in (envelope.max_completion_tokens, envelope.max_tokens, envelope.max_output_tokens):
        if asked is not None and (count := _count(asked)) is not None and count > most:
            most = count
    if most < 0:
        most = DEFAULT_COMPLETION
    return most if envelope.n is None else most * min(_count(envelope.n) or 1, _MOST_CHOICES)


def completion_tokens(path: str, size: int, *, stream: bool) -> int:
    """About how many tokens ``size`` bytes of an answer are."""
    if not path.startswith(_GENERATING):
        return 0
    return -(-size // (_EVENT if stream else _TOKEN))


def _count(value: Any) -> int | None:
    """Also of what lenient targets take for a whole number; everything else is for the target to refuse."""
    if value is None:
        return None
    if isinstance(value, str) and len(value) <= _LONGEST_NUMBER:
        with contextlib.suppress(ValueError):
            value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        return None
    return int(min(value, _MOST_TOKENS))
