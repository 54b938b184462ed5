"""Safetensors headers: what is right is read, and whatever is wrong is refused by type, in little time."""

from __future__ import annotations

import json
import struct
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handlers.headers import SAFETENSORS_DTYPES, BadHeader, read_safetensors

FUZZ = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def packed(header: Any, data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


GOOD = packed({"a": entry("F32", [2, 3], 0, 24), "b": entry("BF16", [4], 24, 32), "__metadata__": {"format": "pt"}}, bytes(32))


def refusal(tmp_path: Path, content: bytes) -> str:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(BadHeader) as caught:
        read_safetensors(path)
    assert caught.value.message.startswith("model.safetensors: ")
    assert str(tmp_path) not in caught.value.message
    return caught.value.reason


def test_a_good_header_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(GOOD)
    header = read_safetensors(path)
    found = [(tensor.name, tensor.dtype, tensor.shape, tensor.elements, tensor.size) for tensor in header.tensors]
    assert found == [("a", "float32", (2, 3), 6, 24), ("b", "bfloat16", (4,), 4, 8)]
    assert header.metadata == {"format": "pt"}


def test_the_library_writes_what_we_read(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    from safetensors.numpy import save_file

    arrays = {"a": numpy.zeros((3, 5), "float32"), "b": numpy.ones((0, 4), "int64"), "c": numpy.array(1, "float16")}
    save_file(arrays, tmp_path / "x.safetensors")
    header = read_safetensors(tmp_path / "x.safetensors")
    assert {tensor.name: tensor.shape for tensor in header.tensors} == {"a": (3, 5), "b": (0, 4), "c": ()}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "shorter"),
        (b"\x08", "shorter"),
        (packed(GOOD)[:40], "shorter"),
        (struct.pack("<Q", 2**63) + b"{}", "shorter"),
        (packed(b"[]"), "not a safetensors"),
        (packed(b"{" * 100_000), "not valid"),
        (packed(b'{"a":\xff}'), "not valid"),
        (packed({"a": 1}), "not valid"),
        (packed({"a": entry("F32", [2**62, 2**62], 0, 4)}, bytes(4)), "overflows"),
        (packed({"a": entry("F32", [-1, -1], 0, 4)}, bytes(4)), "impossible dimension"),
        (packed({"a": entry("F33", [1], 0, 4)}, bytes(4)), "unknown dtype"),
        (packed({"a": entry("F32", [1], 0, 8)}, bytes(8)), "do not match"),
        (packed({"a": entry("F32", [1], 4, 0)}, bytes(8)), "do not match"),
        (packed({"a": entry("F32", [1], -4, 0)}, bytes(8)), "do not match"),
        (packed({"a": entry("F32", [1], 0, 4), "b": entry("F32", [1], 0, 4)}, bytes(4)), "overlap"),
        (packed({"a": entry("F32", [1], 0, 4), "b": entry("F32", [1], 8, 12)}, bytes(12)), "hole"),
        (packed({"a": entry("F32", [4], 0, 16)}, bytes(15)), "past the end"),
        (packed({"a": entry("F32", [1], 0, 4)}, bytes(9)), "follow the last"),
        (packed({"a": entry("F32", [1] * 65, 0, 4)}, bytes(4)), "65 dimensions"),
        (packed({"__metadata__": {"a": 1}}), "not valid"),
    ],
)
def test_a_lying_header_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    assert reason in refusal(tmp_path, content)


def test_a_header_over_the_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 100_000_001) + b"{")
        file.truncate(200_000_000)
    started = time.perf_counter()
    with pytest.raises(BadHeader, match="over the limit"):
        read_safetensors(path)
    assert time.perf_counter() - started < 1


@FUZZ
@given(at=st.integers(0, len(GOOD) - 1), bit=st.integers(0, 7), cut=st.integers(0, len(GOOD)))
def test_flipped_and_truncated_files_raise_nothing_but_the_refusal(tmp_path: Path, at: int, bit: int, cut: int) -> None:
    damaged = bytearray(GOOD)
    damaged[at] ^= 1 << bit
    path = tmp_path / "model.safetensors"
    path.write_bytes(bytes(damaged[:cut]) if cut % 2 else bytes(damaged))
    try:
        header = read_safetensors(path)
    except BadHeader:
        return
    assert sum(tensor.size for tensor in header.tensors) <= len(GOOD)


_SHAPES = st.lists(st.integers(-(2**70), 2**70), max_size=5)
_ENTRIES = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from([*SAFETENSORS_DTYPES, "?"]),
        "shape": _SHAPES,
        "data_offsets": st.tuples(st.integers(-9, 2**65), st.integers(-9, 2**65)),
    }
)


@FUZZ
@given(
    header=st.dictionaries(st.text(max_size=5), _ENTRIES | st.none() | st.integers(), max_size=4), data=st.binary(max_size=40)
)
def test_invented_headers_raise_nothing_but_the_refusal(tmp_path: Path, header: dict[str, Any], data: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(packed(header, data))
    try:
        read_safetensors(path)
    except BadHeader as error:
        assert error.reason  # noqa: PT017
