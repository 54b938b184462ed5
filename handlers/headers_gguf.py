"""The header of a GGUF file, read with our own bounds checks. It is little-endian: a magic, counts, key/value pairs, tensors.

Caps beside the file's own size keep the reading of a hostile header under a second.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from handlers.headers import BadHeader, Header, TensorInfo, check_layout, product

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_HEADER = 256 * 2**20
MAX_PAIRS = 65_536
MAX_TENSORS = 65_536
MAX_KEY = 65_535
MAX_STRING = 2**20
MAX_ARRAY_STRINGS = 2_000_000
MAX_DEPTH = 4
MAX_ALIGNMENT = 4096
MAX_DIMENSIONS = 4

_STRING, _ARRAY = 8, 9
# the scalar types of a value by number: uint8 … bool, then the 64-bit ones
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
# tensor types by number: elements a block, bytes a block, name
TYPES: dict[int, tuple[int, int, str]] = {
    0: (1, 4, "float32"),
    1: (1, 2, "float16"),
    2: (32, 18, "q4_0"),
    3: (32, 20, "q4_1"),
    6: (32, 22, "q5_0"),
    7: (32, 24, "q5_1"),
    8: (32, 34, "q8_0"),
    9: (32, 40, "q8_1"),
    10: (256, 84, "q2_k"),
    11: (256, 110, "q3_k"),
    12: (256, 144, "q4_k"),
    13: (256, 176, "q5_k"),
    14: (256, 210, "q6_k"),
    15: (256, 292, "q8_k"),
    16: (256, 66, "iq2_xxs"),
    17: (256, 74, "iq2_xs"),
    18: (256, 98, "iq3_xxs"),
    19: (256, 50, "iq1_s"),
    20: (32, 18, "iq4_nl"),
    21: (256, 110, "iq3_s"),
    22: (256, 82, "iq2_s"),
    23: (256, 136, "iq4_xs"),
    24: (1, 1, "int8"),
    25: (1, 2, "int16"),
    26: (1, 4, "int32"),
    27: (1, 8, "int64"),
    28: (1, 8, "float64"),
    29: (256, 56, "iq1_m"),
    30: (1, 2, "bfloat16"),
    34: (256, 54, "tq1_0"),
    35: (256, 66, "tq2_0"),
    39: (32, 17, "mxfp4"),
    40: (64, 36, "nvfp4"),
    41: (128, 18, "q1_0"),
}


def read_gguf(path: Path) -> Header:
    """Read and check the header of a GGUF file; arrays are checked and left out of ``metadata``. Raises ``BadHeader``."""
    try:
        with path.open("rb") as file:
            return _read(_Cursor(path, file))
    except OSError as error:
        raise BadHeader(path, f"cannot be read: {error.strerror}") from error


class _Cursor:
    """A position in the header; bytes are read from the file as they are needed, never past its end."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self.size = file.seek(0, 2)
        self.at = 0
        self.strings_left = MAX_ARRAY_STRINGS
        self._file = file
        self._buffer = bytearray()
        file.seek(0)

    def fail(self, reason: str) -> BadHeader:
        return BadHeader(self.path, reason)

    def skip(self, count: int) -> int:
        """Move on by ``count`` bytes and tell where they begin. Raises ``BadHeader`` at the end of the file or of the cap."""
        begin = self.at
        end = begin + count
        if end > self.size:
            raise self.fail("the file ends within its header")
        if end > MAX_HEADER:
            raise self.fail(f"its header is over {MAX_HEADER} bytes")
        while len(self._buffer) < end:
            piece = self._file.read(max(2**20, end - len(self._buffer)))
            if not piece:
                raise self.fail("the file ends within its header")
            self._buffer += piece
        self.at = end
        return begin

    def take(self, count: int) -> bytes:
        begin = self.skip(count)
        return bytes(self._buffer[begin : self.at])

    def number(self, code: str) -> int | float | bool:
        begin = self.skip(struct.calcsize(code))
        value: int | float | bool = struct.unpack_from(code, self._buffer, begin)[0]
        return value

    def count(self, code: str, limit: int, what: str) -> int:
        value = int(self.number(code))
        if value > limit:
            raise self.fail(f"it has {value} {what}, over the limit of {limit}")
        return value

    def string(self, limit: int) -> str:
        length = self.count("<Q", limit, "bytes in one string")
        try:
            return self.take(length).decode()
        except UnicodeDecodeError as error:
            raise self.fail("a string in its header is not UTF-8") from error


def _read(cursor: _Cursor) -> Header:
    if cursor.take(4) != MAGIC:
        raise cursor.fail("this is not a GGUF file")
    version = cursor.number("<I")
    if version not in VERSIONS:
        raise cursor.fail(f"GGUF version {version} is not known")
    tensor_count = cursor.count("<Q", MAX_TENSORS, "tensors")
    pair_count = cursor.count("<Q", MAX_PAIRS, "values")
    metadata = _pairs(cursor, pair_count)
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or not 1 <= alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
        raise cursor.fail("its alignment is not a power of two up to 4096")
    found = [_tensor(cursor, alignment) for _ in range(tensor_count)]
    if len({tensor.name for tensor, _ in found}) != tensor_count:
        raise cursor.fail("two tensors have one name")
    data_begin = -(-cursor.at // alignment) * alignment
    spans = [(offset, offset + tensor.size) for tensor, offset in found]
    check_layout(cursor.path, spans, max(0, cursor.size - data_begin), gaps=True)
    return Header(tensors=tuple(tensor for tensor, _ in found), metadata=metadata)


def _pairs(cursor: _Cursor, count: int) -> dict[str, object]:
    metadata: dict[str, object] = {}
    seen = set()
    for _ in range(count):
        key = cursor.string(MAX_KEY)
        if key in seen:
            raise cursor.fail(f"the key {key[:80]!r} is there twice")
        seen.add(key)
        value = _value(cursor, int(cursor.number("<I")), depth=0)
        if value is not None:
            metadata[key] = value
    return metadata


def _value(cursor: _Cursor, kind: int, depth: int) -> object | None:
    """A scalar or string; None for an array, whose elements are only walked over."""
    if kind == _STRING:
        return cursor.string(MAX_STRING)
    if kind == _ARRAY:
        _walk_array(cursor, depth + 1)
        return None
    if kind not in _SCALARS:
        raise cursor.fail(f"it has a value of the unknown type {kind}")
    return cursor.number(_SCALARS[kind])


def _walk_array(cursor: _Cursor, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise cursor.fail("its arrays are nested too deep")
    kind = int(cursor.number("<I"))
    count = int(cursor.number("<Q"))
    if kind in _SCALARS:
        cursor.skip(count * struct.calcsize(_SCALARS[kind]))
        return
    cursor.strings_left -= count
    if cursor.strings_left < 0:
        raise cursor.fail(f"its arrays hold over {MAX_ARRAY_STRINGS} strings")
    for _ in range(count):
        if kind == _STRING:
            cursor.skip(cursor.count("<Q", MAX_STRING, "bytes in one string"))
        elif kind == _ARRAY:
            _walk_array(cursor, depth + 1)
        else:
            raise cursor.fail(f"it has an array of the unknown type {kind}")


def _tensor(cursor: _Cursor, alignment: int) -> tuple[TensorInfo, int]:
    """A tensor and its offset in the data section."""
    name = cursor.string(MAX_KEY)
    dimensions = cursor.count("<I", MAX_DIMENSIONS, "dimensions in one tensor")
    shape = tuple(int(cursor.number("<Q")) for _ in range(dimensions))
    kind = int(cursor.number("<I"))
    offset = int(cursor.number("<Q"))
    if kind not in TYPES:
        raise cursor.fail(f"tensor {name[:80]!r} has the unknown type {kind}")
    block, block_bytes, dtype = TYPES[kind]
    elements = product(cursor.path, name, shape)
    if (shape[0] if shape else 1) % block:
        raise cursor.fail(f"tensor {name[:80]!r} does not fill whole blocks")
    if offset % alignment:
        raise cursor.fail(f"tensor {name[:80]!r} is not aligned")
    size = elements // block * block_bytes
    return TensorInfo(name=name, dtype=dtype, shape=shape, elements=elements, size=size), offset
