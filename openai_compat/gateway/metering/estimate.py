"""Tokens where nobody counts them: from bytes, and marked as what they are.

Four bytes of a request are a token, as of English text; a picture or a sound inside a JSON body counts as one flat number. An
event of a stream is a token in about two hundred bytes, most of which say nothing.
"""

from __future__ import annotations

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
_HEAD = 128  # bytes in which a data URL says what it is
_BASE64 = (string.ascii_letters + string.digits + "+/=-_\\").encode()
_MOST_CHOICES = 128
_GENERATING = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages")
_READING = ("/v1/embeddings", "/v1/rerank", "/v1/moderations")


def prompt_tokens(path: str, body: bytes) -> int:
    """About how many tokens a JSON body holds; 0 where the model does not read text from it."""
    if not path.startswith(_GENERATING) and not path.startswith(_READING):
        return 0
    if len(body) < _BLOB:
        return -(-len(body) // _TOKEN)
    text, media = 0, 0
    for part in body.split(b'"'):
        if len(part) >= _BLOB and not part[_HEAD : _HEAD + _SAMPLE].translate(None, _BASE64):
            media += 1
        else:
            text += len(part) + 1
    return -(-text // _TOKEN) + media * MEDIUM


def most_completion_tokens(path: str, envelope: Envelope) -> int:
    """What a request may be answered with at most, or the default; of all its choices together."""
    if not path.startswith(_GENERATING):
        return 0
    asked = (envelope.max_completion_tokens, envelope.max_tokens, envelope.max_output_tokens)
    limit = next((value for value in map(_count, asked) if value is not None), DEFAULT_COMPLETION)
    return limit * min(_count(envelope.n) or 1, _MOST_CHOICES)


def completion_tokens(path: str, size: int, *, stream: bool) -> int:
    """About how many tokens ``size`` bytes of an answer are."""
    if not path.startswith(_GENERATING):
        return 0
    return -(-size // (_EVENT if stream else _TOKEN))


def _count(value: Any) -> int | None:
    """What is no whole number is for the target to refuse."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 40 else None
