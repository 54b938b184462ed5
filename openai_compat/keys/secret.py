"""What a key is to the outside: chance, whose hash is all that is kept."""

from __future__ import annotations

import hashlib
import secrets

_CHANCE = 32  # bytes
ID_BYTES = 8
"""How many of its hash's bytes tell a key from the others."""


def new_secret() -> str:
    """As OpenAI's clients expect it."""
    return f"sk-{secrets.token_urlsafe(_CHANCE)}"


def digest_of(key: bytes) -> bytes:
    """SHA-256: fast, which is right for 32 bytes of chance, and wrong for passwords."""
    return hashlib.sha256(key).digest()


def id_of(digest: bytes) -> str:
    """The id under which everybody may know the key: its hash's beginning, which leads nowhere."""
    return digest[:ID_BYTES].hex()
