"""Names for blocks of tokens: equal names mean equal tokens and media from the very beginning on, under the same salt."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from hashlib import blake2b

_BYTES = 16


def root(salt: str) -> bytes:
    """Where a chain begins. Chains of different salts never meet, so that nobody learns another's prompts from the cache."""
    return blake2b(salt.encode(errors="replace"), digest_size=_BYTES, person=b"cache root").digest()


def extend(parent: bytes, tokens: Sequence[int], other: bytes = b"") -> bytes:
    """The name of the block of ``tokens`` that follows the block named ``parent``; ``other`` is what else stands in it."""
    return blake2b(parent + array("q", tokens).tobytes() + other, digest_size=_BYTES).digest()
