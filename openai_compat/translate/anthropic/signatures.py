"""Signatures of thoughts. Clients send thoughts back with the signature that they came with, and refuse to do so without one.

Nothing is proved by ours. Where a client wants no thoughts to be shown, the signature carries them, so that the model finds
them in its prompt again.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

from schemas.anthropic_blocks import ThinkingBlock

_SHOWN = "oc1:"
_CARRIED = "oc1+"
_DIGEST = 32


def signature_of(thoughts: str, *, carried: bool) -> str:
    if carried:
        return _CARRIED + base64.b64encode(thoughts.encode(errors="replace")).decode()
    return _SHOWN + hashlib.sha256(thoughts.encode(errors="replace")).hexdigest()[:_DIGEST]


def thoughts_of(block: ThinkingBlock) -> str:
    """What was thought, shown or carried; nothing of what only another server can read."""
    if block.thinking or not (block.signature or "").startswith(_CARRIED):
        return block.thinking
    try:
        return base64.b64decode((block.signature or "")[len(_CARRIED) :], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return ""
