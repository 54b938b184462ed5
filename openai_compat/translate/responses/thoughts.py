"""``encrypted_content``: reasoning that a client carries from one request to the next where nothing is kept here.

It is not encrypted, and no secret: it holds the model's own reasoning, which the same client may read in the item's text.
It is packed, so that clients treat it as what it is for them: something to give back unread. What other servers made, or what
was changed on the way, is ignored.
"""

from __future__ import annotations

import base64
import binascii
import zlib

MAX_PACKED = 4 << 20
MAX_TEXT = 8 << 20
_VERSION = "r1."
_CHECK = 4  # bytes


def seal(text: str) -> str:
    """What ``Unsealing`` makes the text of again; nothing of a text that is too long."""
    raw = text.encode(errors="replace")
    if len(raw) > MAX_TEXT:
        return ""
    packed = zlib.compress(raw, 1)
    return _VERSION + base64.urlsafe_b64encode(packed + zlib.crc32(raw).to_bytes(_CHECK)).decode()


class Unsealing:
    """Opens what a request brought: all together at most ``MAX_TEXT`` bytes, as what is packed can grow a thousandfold."""

    def __init__(self) -> None:
        self._room = MAX_TEXT

    def open(self, sealed: str) -> str | None:
        """None for anything that ``seal`` has not made, and when there is no room left."""
        if not sealed.startswith(_VERSION) or len(sealed) > MAX_PACKED or self._room <= 0:
            return None
        try:
            packed = base64.urlsafe_b64decode(sealed[len(_VERSION) :].encode("ascii"))
            unpacking = zlib.decompressobj()
            raw = unpacking.decompress(packed[:-_CHECK], self._room)
            self._room -= len(raw)
            whole = unpacking.eof and zlib.crc32(raw).to_bytes(_CHECK) == packed[-_CHECK:]
            return raw.decode() if whole else None
        except (binascii.Error, zlib.error, UnicodeError, ValueError):
            return None
