"""Bytes of several kinds in one stream: each parcel is a kind (one byte), a length (four, big-endian) and that many bytes.

A worker answers with these where the gateway asks for something that takes minutes, and whose progress it shows.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum

MEDIA_TYPE = "application/vnd.openai-compat.parcels"
LONGEST = 1 << 24
_HEAD = struct.Struct(">BI")


class Kind(IntEnum):
    PROGRESS = 1  # JSON: {"done", "total"}
    FACTS = 2  # JSON, of the whole
    THUMBNAIL = 3
    CONTENT = 4  # the next bytes of the file
    ERROR = 5  # JSON: OpenAI's error body; nothing follows
    END = 6


_KINDS = frozenset(Kind)


class BrokenParcels(Exception):
    """The bytes are none of ours."""


def parcel(kind: Kind, payload: bytes = b"") -> bytes:
    return _HEAD.pack(kind, len(payload)) + payload


class ParcelReader:
    """Takes a stream piece by piece."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, chunk: bytes) -> Iterator[tuple[Kind, bytes]]:
        """The parcels that are whole by now. Raises ``BrokenParcels``."""
        self._data += chunk
        while len(self._data) >= _HEAD.size:
            number, length = _HEAD.unpack_from(self._data)
            if length > LONGEST or number not in _KINDS:
                raise BrokenParcels
            end = _HEAD.size + length
            if len(self._data) < end:
                return
            payload = bytes(self._data[_HEAD.size : end])
            del self._data[:end]
            yield Kind(number), payload
