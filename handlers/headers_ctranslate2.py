"""The header of CTranslate2's ``model.bin``: a version, the model's name, its variables one after the other, aliases.

Every length is compared with what is left of the file; zip archives and pickles under this name are refused.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any, BinaryIO

from handlers.headers import BadHeader, Header, TensorInfo, product

VERSIONS = range(4, 7)
MAX_NAME = 4096
MAX_VARIABLES = 65_536
MAX_DIMENSIONS = 8
# bytes an element, and the dtype's name, by type number
TYPES = ((4, "float32"), (1, "int8"), (2, "int16"), (4, "int32"), (2, "float16"), (2, "bfloat16"))
FOREIGN = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"GGUF")
POSITIONS = "decoder/position_encodings/encodings"


def read_ctranslate2(path: Path) -> Header:
    """Raises ``BadHeader`` unless ``path`` is a CTranslate2 model whose variables fill the file exactly."""
    try:
        with path.open("rb") as file:
            return _read(_Reader(path, file))
    except OSError as error:
        raise BadHeader(path, f"cannot be read: {error.strerror}") from error


def _read(reader: _Reader) -> Header:
    if reader.peek().startswith(FOREIGN):
        raise BadHeader(reader.path, "a pickle, zip or GGUF under the name of a CTranslate2 model")
    if reader.number("<I") not in VERSIONS:
        raise BadHeader(reader.path, "this is not a CTranslate2 model of a known version")
    architecture = reader.name()
    reader.number("<I")
    tensors = tuple(_variable(reader) for _ in range(reader.count(MAX_VARIABLES)))
    for _ in range(reader.count(MAX_VARIABLES)):
        reader.name()
        reader.name()
    if reader.left:
        raise BadHeader(reader.path, f"{reader.left} bytes follow its last variable")
    return Header(tensors=tensors, metadata=_metadata(architecture, tensors))


def _metadata(architecture: str, tensors: tuple[TensorInfo, ...]) -> dict[str, Any]:
    """In GGUF's words, which is what others ask by."""
    found: dict[str, Any] = {"general.architecture": architecture}
    places = next((tensor for tensor in tensors if tensor.name == POSITIONS and tensor.shape), None)
    return found | ({"decoder.context_length": places.shape[0]} if places else {})


class _Reader:
    """Reads forward, never past the end of the file."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self.left = os.fstat(file.fileno()).st_size
        self._file = file

    def peek(self) -> bytes:
        head = self._file.read(4)
        self._file.seek(0)
        return head

    def take(self, count: int) -> bytes:
        data = self._file.read(self._spend(count))
        if len(data) != count:
            raise BadHeader(self.path, "the file ends early")
        return data

    def skip(self, count: int) -> None:
        self._file.seek(self._spend(count), os.SEEK_CUR)

    def number(self, code: str) -> int:
        value: int = struct.unpack(code, self.take(struct.calcsize(code)))[0]
        return value

    def count(self, limit: int) -> int:
        value = self.number("<I")
        if value > limit:
            raise BadHeader(self.path, f"it says {value} variables, over the limit of {limit}")
        return value

    def name(self) -> str:
        length = self.number("<H")
        if not 1 <= length <= MAX_NAME:
            raise BadHeader(self.path, "a name in its header has an impossible length")
        data = self.take(length)
        if data[-1] != 0 or not data[:-1].isascii():
            raise BadHeader(self.path, "a name in its header is not text")
        return data[:-1].decode()

    def _spend(self, count: int) -> int:
        if count > self.left:
            raise BadHeader(self.path, "the file is shorter than its header says")
        self.left -= count
        return count


def _variable(reader: _Reader) -> TensorInfo:
    name = reader.name()
    rank = reader.number("<B")
    if rank > MAX_DIMENSIONS:
        raise BadHeader(reader.path, f"variable {name[:80]!r} has {rank} dimensions")
    shape = tuple(reader.number("<I") for _ in range(rank))
    kind = reader.number("<B")
    size = reader.number("<I")
    elements = product(reader.path, name, shape)
    if kind >= len(TYPES) or size != elements * TYPES[kind][0]:
        raise BadHeader(reader.path, f"the size of variable {name[:80]!r} does not match its shape and type")
    reader.skip(size)
    return TensorInfo(name=name, dtype=TYPES[kind][1], shape=shape, elements=elements, size=size)
