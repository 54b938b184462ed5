"""Small, valid pictures, sounds and videos from nothing but the standard library."""

from __future__ import annotations

import math
import struct
import zlib

Color = tuple[int, int, int]
SAMPLE_RATE = 8000
_TIMESCALE = 1000
_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)


def color_of(text: str) -> Color:
    """The same text always has the same colour."""
    value = zlib.crc32(text.encode())
    return value & 255, value >> 8 & 255, value >> 16 & 255


def png(width: int, height: int, color: Color) -> bytes:
    """A picture of one colour; sizes in pixels."""
    row = b"\0" + bytes(color) * width
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(row * height)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def tone(seconds: float, hertz: float) -> bytes:
    """A sine tone: mono, 16 bit little-endian, 8 kHz, no header."""
    step = 2 * math.pi * hertz / SAMPLE_RATE
    samples = [round(8000 * math.sin(step * i)) for i in range(round(seconds * SAMPLE_RATE))]
    return struct.pack(f"<{len(samples)}h", *samples)


def mp4(frames: list[bytes], width: int, height: int, frame_ms: int) -> bytes:
    """A video whose frames are PNG pictures, each shown for ``frame_ms`` milliseconds."""
    start = _box(b"ftyp", b"isom", _u32(0x200), b"isomiso2")
    media = _box(b"mdat", *frames)
    table = _sample_table(frames, width, height, frame_ms, first_offset=len(start) + 8)
    return start + media + _movie(table, width, height, frame_ms * len(frames))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return _u32(len(data)) + kind + data + _u32(zlib.crc32(kind + data))


def _u32(*values: int) -> bytes:
    return struct.pack(f">{len(values)}I", *values)


def _box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return _u32(8 + len(body)) + kind + body


def _sample_table(frames: list[bytes], width: int, height: int, frame_ms: int, first_offset: int) -> bytes:
    looks = b"\0" * 16 + struct.pack(">HH", width, height) + _u32(0x480000, 0x480000, 0) + struct.pack(">H", 1)
    entry = _box(b"png ", b"\0" * 6, struct.pack(">H", 1), looks, b"\0" * 32, struct.pack(">Hh", 24, -1))
    return _box(
        b"stbl",
        _box(b"stsd", _u32(0, 1), entry),
        _box(b"stts", _u32(0, 1, len(frames), frame_ms)),
        _box(b"stsc", _u32(0, 1, 1, len(frames), 1)),
        _box(b"stsz", _u32(0, 0, len(frames), *map(len, frames))),
        _box(b"stco", _u32(0, 1, first_offset)),
    )


def _movie(table: bytes, width: int, height: int, duration: int) -> bytes:
    header = _box(b"mvhd", _u32(0, 0, 0, _TIMESCALE, duration, 0x10000, 0x1000000, 0, 0), _MATRIX, _u32(*[0] * 6, 2))
    track = _box(b"tkhd", _u32(3, 0, 0, 1, 0, duration, 0, 0, 0, 0), _MATRIX, _u32(width << 16, height << 16))
    reference = _box(b"dinf", _box(b"dref", _u32(0, 1), _box(b"url ", _u32(1))))
    info = _box(b"minf", _box(b"vmhd", _u32(1, 0, 0)), reference, table)
    handler = _box(b"hdlr", _u32(0, 0), b"vide", b"\0" * 13)
    media = _box(b"mdia", _box(b"mdhd", _u32(0, 0, 0, _TIMESCALE, duration, 0x55C40000)), handler, info)
    return _box(b"moov", header, _box(b"trak", track, media))
