"""ONNX files are protobuf: walked here by field number, without the library, as deep as external data and operator sets stand.

External data may lie beside the model, never outside its folder. Operators of domains that no runtime ships would need a
foreign library and are refused.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from handlers.headers import BadHeader

MAX_BYTES = 2**31
MAX_FIELDS = 400_000  # a second's work; speech models have a tenth of it
MAX_DEPTH = 32
DOMAINS = (
    b"",
    b"ai.onnx",
    b"ai.onnx.ml",
    b"ai.onnx.training",
    b"ai.onnx.preview.training",
    b"com.microsoft",
    b"com.microsoft.nchwc",
)
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# which fields of a message are messages that matter, by number
SCHEMA: dict[str, dict[int, str]] = {
    "model": {7: "graph", 8: "opset", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 9: "opset", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "external"},
    "opset": {},
    "external": {},
}


class _Message(NamedTuple):
    kind: str
    data: memoryview
    depth: int


def check_onnx(path: Path, root: Path) -> None:
    """Raises ``BadHeader`` where the file is no ONNX model, or needs a file outside ``root`` or operators of its own."""
    if path.stat().st_size > MAX_BYTES:
        raise BadHeader(path, "ONNX files over 2 GiB are not valid")
    with path.open("rb") as file:
        try:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:
            raise BadHeader(path, "the file is empty") from error
    seen_graph = False
    budget = MAX_FIELDS
    stack = [_Message("model", memoryview(data), 0)]
    while stack:
        message = stack.pop()
        if message.depth > MAX_DEPTH:
            raise BadHeader(path, f"its graphs are nested over {MAX_DEPTH} levels deep")
        fields = list(_fields(path, message.data, budget))
        budget -= len(fields)
        seen_graph = seen_graph or message.kind == "graph"
        _check_message(path, root, message.kind, fields)
        nested = SCHEMA[message.kind]
        stack += [_Message(nested[number], value, message.depth + 1) for number, value in fields if number in nested]
    if not seen_graph:
        raise BadHeader(path, "this is not an ONNX model")


def _check_message(path: Path, root: Path, kind: str, fields: list[tuple[int, memoryview]]) -> None:
    if kind == "opset":
        domain = bytes(next((value for number, value in fields if number == 1), memoryview(b"")))
        if domain not in DOMAINS:
            raise BadHeader(path, f"it needs the custom operators {domain[:80].decode(errors='replace')!r}")
    elif kind == "external":
        pair = {number: bytes(value) for number, value in fields if number in (1, 2)}
        if pair.get(1) == b"location":
            _check_location(path, root, pair.get(2, b""))


def _check_location(path: Path, root: Path, location: bytes) -> None:
    name = os.fsdecode(location)
    target = (path.parent / name).resolve() if "\0" not in name else Path("/")
    if not name or os.path.isabs(name) or ".." in Path(name).parts or not target.is_relative_to(root.resolve()):
        raise BadHeader(path, "it takes data from outside the model's folder")
    if not target.is_file():
        raise BadHeader(path, f"its data file {name[:80]!r} is missing")


def _fields(path: Path, data: memoryview, budget: int) -> Iterator[tuple[int, memoryview]]:
    """Field number and bytes of each length-delimited field; other wire types are stepped over."""
    at = 0
    while at < len(data):
        budget -= 1
        if budget < 0:
            raise BadHeader(path, f"it has over {MAX_FIELDS} fields")
        tag, at = _varint(path, data, at)
        kind = tag & 7
        if kind == _VARINT:
            _, at = _varint(path, data, at)
            continue
        length, at = _varint(path, data, at) if kind == _BYTES else ({_FIXED64: 8, _FIXED32: 4}.get(kind, -1), at)
        if length < 0 or at + length > len(data):
            raise BadHeader(path, "this is not a valid ONNX file")
        if kind == _BYTES:
            yield tag >> 3, data[at : at + length]
        at += length


def _varint(path: Path, data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise BadHeader(path, "this is not a valid ONNX file")
