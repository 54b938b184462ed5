"""The headers of weight files, read with our own bounds checks before any library maps the file.

Every number in a header is a stranger's: it is compared with the file's size before it is used. Whatever is wrong is a
``BadHeader`` and nothing else. The GGUF reader is in ``handlers.headers_gguf``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
from msgspec import Struct

from openai_compat.errors import ModelUnavailable

MAX_SAFETENSORS_HEADER = 100_000_000
MAX_TENSORS = 262_144
MAX_ELEMENTS = 2**63 - 1
MAX_DIMENSIONS = 64
# bits an element, and the name that torch has for it
SAFETENSORS_DTYPES: dict[str, tuple[int, str]] = {
    "F64": (64, "float64"),
    "F32": (32, "float32"),
    "F16": (16, "float16"),
    "BF16": (16, "bfloat16"),
    "F8_E4M3": (8, "float8_e4m3fn"),
    "F8_E5M2": (8, "float8_e5m2"),
    "F8_E4M3FNUZ": (8, "float8_e4m3fnuz"),
    "F8_E5M2FNUZ": (8, "float8_e5m2fnuz"),
    "F8_E8M0": (8, "float8_e8m0fnu"),
    "F4": (4, "float4_e2m1fn_x2"),
    "C64": (64, "complex64"),
    "I64": (64, "int64"),
    "I32": (32, "int32"),
    "I16": (16, "int16"),
    "I8": (8, "int8"),
    "U64": (64, "uint64"),
    "U32": (32, "uint32"),
    "U16": (16, "uint16"),
    "U8": (8, "uint8"),
    "BOOL": (8, "bool"),
}


class BadHeader(ModelUnavailable):
    """A file whose header lies or cannot be read; the message names the file, without its folder."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path.name}: {reason}")
        self.reason = reason


class TensorInfo(Struct, frozen=True, kw_only=True):
    """One tensor as the header tells it; ``size`` is its bytes in the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    elements: int
    size: int


class Header(Struct, frozen=True, kw_only=True):
    """``metadata`` holds scalars and strings only."""

    tensors: tuple[TensorInfo, ...]
    metadata: dict[str, Any] = {}


class _Entry(Struct, frozen=True, forbid_unknown_fields=True):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


def product(path: Path, name: str, shape: tuple[int, ...]) -> int:
    """Number of elements. Raises ``BadHeader`` where a dimension is negative or the product leaves 63 bits."""
    if len(shape) > MAX_DIMENSIONS:
        raise BadHeader(path, f"tensor {name[:80]!r} has {len(shape)} dimensions")
    total = 1
    for size in shape:
        if size < 0 or size > MAX_ELEMENTS:
            raise BadHeader(path, f"tensor {name[:80]!r} has an impossible dimension")
        total *= size
        if total > MAX_ELEMENTS:
            raise BadHeader(path, f"the size of tensor {name[:80]!r} overflows")
    return total


def check_layout(path: Path, spans: list[tuple[int, int]], room: int, *, gaps: bool) -> None:
    """Refuse tensors that overlap, leave holes (unless ``gaps``) or reach past the ``room`` bytes that there are."""
    end = 0
    for begin, stop in sorted(spans):
        if begin < end:
            raise BadHeader(path, "tensors overlap")
        if begin > end and not gaps:
            raise BadHeader(path, "there is a hole between tensors")
        end = max(end, stop)
    if end > room:
        raise BadHeader(path, f"tensors reach {end - room} bytes past the end of the file")
    if end < room and not gaps:
        raise BadHeader(path, f"{room - end} bytes follow the last tensor")


def read_safetensors(path: Path) -> Header:
    """Read and check the header of a safetensors file. Raises ``BadHeader``."""
    try:
        with path.open("rb") as file:
            raw, room = _safetensors_json(path, file)
    except OSError as error:
        raise BadHeader(path, f"cannot be read: {error.strerror}") from error
    entries = _decode(path, raw, dict[str, msgspec.Raw])
    metadata = _decode(path, entries.pop("__metadata__", b"{}"), dict[str, str])
    _check_names(path, raw, len(entries))
    tensors = []
    spans = []
    for name, value in entries.items():
        entry = _decode(path, value, _Entry)
        tensors.append(_tensor(path, name, entry))
        spans.append(entry.data_offsets)
    check_layout(path, spans, room, gaps=False)
    return Header(tensors=tuple(tensors), metadata=metadata)


def _safetensors_json(path: Path, file: BinaryIO) -> tuple[bytes, int]:
    size = file.seek(0, 2)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > size - 8:
        raise BadHeader(path, "the file is shorter than its header says")
    if length > MAX_SAFETENSORS_HEADER:
        raise BadHeader(path, f"its header of {length} bytes is over the limit of {MAX_SAFETENSORS_HEADER}")
    raw = file.read(length)
    if not raw.startswith(b"{"):
        raise BadHeader(path, "this is not a safetensors file")
    return raw, size - 8 - length


def _check_names(path: Path, raw: bytes, count: int) -> None:
    """Refuse names that stand there twice: of two readers one could take the first, and the other the last."""
    if count > MAX_TENSORS:
        raise BadHeader(path, f"it has {count} tensors, over the limit of {MAX_TENSORS}")
    if raw.count(b'"data_offsets"') > count and len(json.loads(raw, object_pairs_hook=list)) > count + 1:
        raise BadHeader(path, "two tensors have one name")


def _decode(path: Path, raw: bytes | msgspec.Raw, kind: Any) -> Any:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadHeader(path, "its header is not valid") from error


def _tensor(path: Path, name: str, entry: _Entry) -> TensorInfo:
    if entry.dtype not in SAFETENSORS_DTYPES:
        raise BadHeader(path, f"tensor {name[:80]!r} has the unknown dtype {entry.dtype[:20]!r}")
    bits, dtype = SAFETENSORS_DTYPES[entry.dtype]
    shape = tuple(entry.shape)
    elements = product(path, name, shape)
    begin, end = entry.data_offsets
    if begin < 0 or end < begin or (elements * bits) % 8 or end - begin != elements * bits // 8:
        raise BadHeader(path, f"the offsets of tensor {name[:80]!r} do not match its shape and dtype")
    return TensorInfo(name=name, dtype=dtype, shape=shape, elements=elements, size=end - begin)
