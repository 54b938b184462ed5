"""What a decoding process and its owner say to each other: an ``Order`` and bytes one way, pieces and a word the other."""

from __future__ import annotations

import struct
from typing import IO

import msgspec
from msgspec import Struct

READY = "ready"
UNREADABLE = "unreadable"
PIECE = 1 << 20
_LENGTH = struct.Struct("!I")


class Order(Struct, frozen=True):
    """What comes before the ``size`` bytes to decode: bytes of ``memory``, seconds of ``cpu``, and the kind's own ``task``."""

    size: int
    memory: int
    cpu: int
    task: msgspec.Raw


class Refused(Exception):
    """``args[0]`` is the word for it."""


def write(pipe: IO[bytes], message: bytes) -> None:
    pipe.write(_LENGTH.pack(len(message)) + message)
    pipe.flush()


def read(pipe: IO[bytes]) -> bytes:
    """One message. Raises ``EOFError`` where the other side has ended."""
    return read_exactly(pipe, _LENGTH.unpack(read_exactly(pipe, _LENGTH.size))[0])


def read_exactly(pipe: IO[bytes], count: int) -> bytes:
    data = pipe.read(count)
    if len(data) != count:
        raise EOFError
    return data
