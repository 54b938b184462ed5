"""GGUF headers: read as the reference library writes them; every lie is refused by type and soon."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handlers.headers import BadHeader
from handlers.headers_gguf import TYPES, read_gguf

FUZZ = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def pair(key: bytes, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def tensor(name: bytes, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def packed(pairs: list[bytes], tensors: list[bytes], data: int = 0, version: int = 3, alignment: int = 32) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(pairs)) + b"".join(pairs) + b"".join(tensors)
    return head + bytes(-len(head) % alignment + data)


NAME = pair(b"general.architecture", 8, text(b"llama"))
CONTEXT = pair(b"llama.context_length", 4, struct.pack("<I", 77))
WORDS = pair(b"tokens", 9, struct.pack("<IQ", 8, 2) + text(b"a") + text(b"bc"))
SCORES = pair(b"scores", 9, struct.pack("<IQ", 6, 2) + bytes(8))
GOOD = packed([NAME, CONTEXT, WORDS, SCORES], [tensor(b"w", (32, 2), 3, 0), tensor(b"v", (4,), 0, 64)], 80)


def refusal(tmp_path: Path, content: bytes) -> str:
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    started = time.perf_counter()
    with pytest.raises(BadHeader) as caught:
        read_gguf(path)
    assert time.perf_counter() - started < 5
    assert str(tmp_path) not in caught.value.message
    return caught.value.reason


def test_a_good_header_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(GOOD)
    header = read_gguf(path)
    assert header.metadata == {"general.architecture": "llama", "llama.context_length": 77}
    found = [(tensor.name, tensor.dtype, tensor.elements, tensor.size) for tensor in header.tensors]
    assert found == [("w", "q4_1", 64, 40), ("v", "float32", 4, 16)]


def test_block_sizes_are_those_of_the_reference_library() -> None:
    gguf = pytest.importorskip("gguf")
    assert {int(kind): sizes for kind, sizes in gguf.GGML_QUANT_SIZES.items()} == {
        kind: (block, size) for kind, (block, size, _) in TYPES.items()
    }


def test_the_reference_library_writes_what_we_read(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    numpy = pytest.importorskip("numpy")
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_context_length(128)
    writer.add_token_list(["a", "b"])
    writer.add_tensor("w", numpy.zeros((3, 4), "float32"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    header = read_gguf(tmp_path / "m.gguf")
    assert header.metadata["llama.context_length"] == 128
    assert [(tensor.name, tensor.elements) for tensor in header.tensors] == [("w", 12)]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "ends within"),
        (b"PK\x03\x04" + bytes(40), "not a GGUF"),
        (packed([], [], version=9), "version 9"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0), "tensors, over the limit"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**60), "values, over the limit"),
        (packed([struct.pack("<Q", 2**50)], []), "over the limit"),
        (packed([pair(b"a", 8, struct.pack("<Q", 2**63))], []), "over the limit"),
        (packed([NAME, NAME], []), "twice"),
        (packed([pair(b"\xff\xfe", 4, bytes(4))], []), "not UTF-8"),
        (packed([pair(b"a", 99, b"")], []), "unknown type 99"),
        (packed([pair(b"a", 9, struct.pack("<IQ", 10, 2**61))], []), "ends within"),
        (packed([pair(b"a", 9, struct.pack("<IQ", 8, 2**40))], []), "strings"),
        (packed([pair(b"a", 9, struct.pack("<IQ", 9, 1) * 9)], []), "nested too deep"),
        (packed([pair(b"a", 9, struct.pack("<IQ", 55, 1))], []), "unknown type 55"),
        (packed([pair(b"general.alignment", 4, struct.pack("<I", 33))], []), "alignment"),
        (packed([pair(b"general.alignment", 4, struct.pack("<I", 8192))], []), "alignment"),
        (packed([pair(b"general.alignment", 4, struct.pack("<I", 0))], []), "alignment"),
        (packed([pair(b"general.alignment", 6, struct.pack("<f", 32))], []), "alignment"),
        (packed([], [tensor(b"w", (2**40, 2**40), 0, 0)]), "overflows"),
        (packed([], [tensor(b"w", (1, 1, 1, 1, 1), 0, 0)]), "dimensions"),
        (packed([], [tensor(b"w", (4,), 0, 0)], 8), "past the end"),
        (packed([], [tensor(b"w", (4,), 0, 2**63)], 16), "past the end"),
        (packed([], [tensor(b"w", (4,), 0, 7)], 99), "not aligned"),
        (packed([], [tensor(b"w", (33,), 3, 0)], 99), "whole blocks"),
        (packed([], [tensor(b"w", (4,), 77, 0)], 99), "unknown type 77"),
        (packed([], [tensor(b"w", (4,), 0, 0), tensor(b"w", (4,), 0, 32)], 99), "one name"),
        (packed([], [tensor(b"w", (16,), 0, 0), tensor(b"v", (4,), 0, 32)], 99), "overlap"),
    ],
)
def test_a_lying_header_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    assert reason in refusal(tmp_path, content)


@pytest.mark.parametrize("cut", [4, 8, 23, 24, 40, 90, 150, len(GOOD) - 80, len(GOOD) - 1])
def test_a_truncated_file_is_refused(tmp_path: Path, cut: int) -> None:
    assert refusal(tmp_path, GOOD[:cut])


@FUZZ
@given(
    flips=st.lists(st.tuples(st.integers(0, len(GOOD) - 81), st.integers(0, 7)), min_size=1, max_size=4),
    cut=st.integers(0, len(GOOD)),
)
def test_flipped_and_truncated_files_raise_nothing_but_the_refusal(
    tmp_path: Path, flips: list[tuple[int, int]], cut: int
) -> None:
    damaged = bytearray(GOOD)
    for at, bit in flips:
        damaged[at] ^= 1 << bit
    path = tmp_path / "m.gguf"
    path.write_bytes(bytes(damaged[:cut]) if cut % 2 else bytes(damaged))
    try:
        header = read_gguf(path)
    except BadHeader:
        return
    assert sum(tensor.size for tensor in header.tensors) <= len(GOOD)


@FUZZ
@given(rest=st.binary(max_size=300))
def test_random_bytes_raise_nothing_but_the_refusal(tmp_path: Path, rest: bytes) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF\x03\0\0\0" + rest)
    try:
        read_gguf(path)
    except BadHeader as error:
        assert error.reason  # noqa: PT017
