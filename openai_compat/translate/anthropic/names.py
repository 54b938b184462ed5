"""Names of tools: Anthropic's may have 128 characters, those of a chat 64."""

from __future__ import annotations

import hashlib

LONGEST = 64
_DIGEST = 8


def shortened(name: str) -> str:
    """The same for the same name, wherever it stands: a long one ends in a digest of itself."""
    if len(name) <= LONGEST:
        return name
    digest = hashlib.sha256(name.encode(errors="replace")).hexdigest()[:_DIGEST]
    return f"{name[: LONGEST - _DIGEST - 1]}_{digest}"
