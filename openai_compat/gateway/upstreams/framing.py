"""Where the events of a stream end, however its bytes were cut on the way."""

from __future__ import annotations

END = b"\n\n"
LONGEST_EVENT = 64 << 20
"""Bytes. A picture of 4K in base64 has half as many."""
_BOM = b"\xef\xbb\xbf"


class TooLong(Exception):
    """More came without an end of an event than any event has."""


class Framing:
    """Cuts what comes into blocks of whole events, with ``\\n`` at the end of every line.

    The part of an event that is held back is copied once, not once for every chunk of it.
    """

    __slots__ = ("_after_return", "_begun", "_held")

    def __init__(self) -> None:
        self._held = bytearray()
        self._after_return = False
        self._begun = False

    def feed(self, chunk: bytes) -> bytes:
        """All whole events that are there now, which may be none. Raises ``TooLong``."""
        if self._after_return or b"\r" in chunk:
            chunk = self._with_line_feeds(chunk)
        if self._begun and not self._held and chunk.endswith(END):
            return chunk
        return self._cut(chunk)

    def rest(self) -> bytes:
        """What is left when nothing more comes."""
        rest = bytes(self._held)
        self._held.clear()
        return rest.removeprefix(_BOM) if not self._begun else rest

    def _cut(self, chunk: bytes) -> bytes:
        held = self._held
        seam = max(0, len(held) - 1)
        held += chunk
        end = held.rfind(END, seam) + len(END)
        if end < len(END):
            if len(held) > LONGEST_EVENT:
                raise TooLong
            return b""
        block = bytes(held[:end])
        del held[:end]
        if not self._begun:
            self._begun = True
            block = block.removeprefix(_BOM)
        return block

    def _with_line_feeds(self, chunk: bytes) -> bytes:
        """A return ends a line at once; a line feed right after it belongs to it, in this chunk or the next."""
        if self._after_return:
            chunk = chunk.removeprefix(b"\n") if chunk else chunk
            if not chunk:
                self._after_return = False
                return chunk
        self._after_return = chunk.endswith(b"\r")
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
