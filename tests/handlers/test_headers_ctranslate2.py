"""CTranslate2 models are walked to their last byte; a file that only has the name is refused."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handlers.headers import BadHeader
from handlers.headers_ctranslate2 import read_ctranslate2


def name(value: bytes) -> bytes:
    return struct.pack("<H", len(value) + 1) + value + b"\0"


def variable(label: bytes, shape: tuple[int, ...], kind: int, data: bytes) -> bytes:
    return name(label) + struct.pack(f"<B{len(shape)}IBI", len(shape), *shape, kind, len(data)) + data


def packed(*variables: bytes, version: int = 6, aliases: bytes = struct.pack("<I", 0)) -> bytes:
    head = struct.pack("<I", version) + name(b"WhisperSpec") + struct.pack("<II", 3, len(variables))
    return head + b"".join(variables) + aliases


GOOD = packed(
    variable(b"w", (2, 3), 4, bytes(12)),
    variable(b"scale", (), 0, bytes(4)),
    aliases=struct.pack("<I", 1) + name(b"x") + name(b"w"),
)


def test_a_good_model_is_read(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(GOOD)
    header = read_ctranslate2(tmp_path / "model.bin")
    assert [(tensor.name, tensor.dtype, tensor.shape, tensor.size) for tensor in header.tensors] == [
        ("w", "float16", (2, 3), 12),
        ("scale", "float32", (), 4),
    ]
    assert header.metadata == {"general.architecture": "WhisperSpec"}


def test_the_decoder_s_positions_are_its_context(tmp_path: Path) -> None:
    places = variable(b"decoder/position_encodings/encodings", (448, 2), 4, bytes(1792))
    (tmp_path / "model.bin").write_bytes(packed(places))
    assert read_ctranslate2(tmp_path / "model.bin").metadata["decoder.context_length"] == 448


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "shorter"),
        (b"PK\x03\x04" + bytes(99), "zip"),
        (b"\x80\x04\x95" + bytes(99), "pickle"),
        (packed(version=1), "known version"),
        (packed(version=7), "known version"),
        (GOOD[:-1], "shorter"),
        (GOOD + b"\0", "follow"),
        (packed(variable(b"w", (2, 3), 4, bytes(11))), "does not match"),
        (packed(variable(b"w", (2**31, 2**31, 2**31), 0, b"")), "overflows"),
        (packed(variable(b"w", (1,), 9, bytes(4))), "does not match"),
        (packed(variable(b"w", (1,) * 9, 0, bytes(4))), "9 dimensions"),
        (packed(variable(b"\xff", (1,), 0, bytes(4))), "not text"),
        (struct.pack("<IH", 6, 0), "impossible length"),
        (struct.pack("<I", 6) + name(b"x") + struct.pack("<II", 1, 2**31), "over the limit"),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "model.bin").write_bytes(content)
    with pytest.raises(BadHeader, match=reason):
        read_ctranslate2(tmp_path / "model.bin")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, len(GOOD) - 1), bit=st.integers(0, 7), cut=st.integers(0, len(GOOD)))
def test_flipped_and_truncated_files_raise_nothing_but_the_refusal(tmp_path: Path, at: int, bit: int, cut: int) -> None:
    damaged = bytearray(GOOD)
    damaged[at] ^= 1 << bit
    path = tmp_path / "model.bin"
    path.write_bytes(bytes(damaged[:cut]) if cut % 2 else bytes(damaged))
    try:
        read_ctranslate2(path)
    except BadHeader as error:
        assert error.reason  # noqa: PT017
