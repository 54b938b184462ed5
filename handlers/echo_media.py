"""Plain pictures and tones from nothing but the standard library."""

from __future__ import annotations

import math
import struct
import zlib

from handlers.types import Picture

Color = tuple[int, int, int]
SAMPLE_RATE = 8000


def color_of(text: str) -> Color:
    """The same text always has the same colour."""
    value = zlib.crc32(text.encode())
    return value & 255, value >> 8 & 255, value >> 16 & 255


def plain(width: int, height: int, color: Color) -> Picture:
    """A picture of one colour; sizes in pixels."""
    return Picture(width=width, height=height, pixels=bytes(color) * (width * height))


def tone(seconds: float, hertz: float) -> bytes:
    """A sine tone: mono, 16 bit little-endian, 8 kHz, no header."""
    step = 2 * math.pi * hertz / SAMPLE_RATE
    samples = [round(8000 * math.sin(step * i)) for i in range(round(seconds * SAMPLE_RATE))]
    return struct.pack(f"<{len(samples)}h", *samples)
