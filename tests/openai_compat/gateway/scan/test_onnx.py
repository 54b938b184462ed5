"""ONNX files may keep data beside them, never elsewhere, and need no operators that we do not ship."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handlers.headers import BadHeader
from openai_compat.gateway.scan.onnx import check_onnx


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def tensor(location: bytes | None) -> bytes:
    external = field(13, field(1, b"location") + field(2, location)) if location is not None else b""
    return field(8, b"w") + varint(1 << 3) + varint(4) + field(9, b"\0\0\0\0") + external


def model(location: bytes | None = None, domain: bytes = b"", *, nested: bool = False) -> bytes:
    graph = field(5, tensor(location))
    if nested:
        graph = field(1, field(5, field(6, graph)))
    return varint(1 << 3) + varint(8) + field(7, graph) + field(8, field(1, domain) + varint(2 << 3) + varint(17))


def check(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "model"
    folder.mkdir(exist_ok=True)
    (folder / "weights.onnx_data").touch()
    (tmp_path / "secret").touch()
    (folder / "m.onnx").write_bytes(content)
    check_onnx(folder / "m.onnx", folder)


@pytest.mark.parametrize("content", [model(), model(b"weights.onnx_data"), model(domain=b"com.microsoft"), model(nested=True)])
def test_a_good_model_passes(tmp_path: Path, content: bytes) -> None:
    check(tmp_path, content)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("location", [b"../secret", b"/etc/passwd", b"a/../../secret", b"", b"x\0y", b"\xff/../../secret"])
def test_data_from_elsewhere_is_refused_however_deep_it_stands(tmp_path: Path, location: bytes, nested: bool) -> None:
    with pytest.raises(BadHeader, match="outside"):
        check(tmp_path, model(location, nested=nested))


def test_missing_data_and_foreign_operators_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadHeader, match="missing"):
        check(tmp_path, model(b"gone.onnx_data"))
    with pytest.raises(BadHeader, match="custom operators 'evil'"):
        check(tmp_path, model(domain=b"evil"))


def test_data_behind_a_link_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "w.onnx_data").symlink_to("../secret")
    with pytest.raises(BadHeader, match="outside"):
        check(tmp_path, model(b"w.onnx_data"))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\xff" * 20, field(2, b"pytorch"), model()[:-1]])
def test_what_is_no_onnx_model_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(BadHeader):
        check(tmp_path, content)


def test_graphs_nested_without_end_are_refused(tmp_path: Path) -> None:
    graph = b""
    for _ in range(50):
        graph = field(1, field(5, field(6, graph)))
    with pytest.raises(BadHeader, match="nested"):
        check(tmp_path, field(7, graph))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, len(model(b"weights.onnx_data")) - 1), bit=st.integers(0, 7))
def test_flipped_files_raise_nothing_but_the_refusal(tmp_path: Path, at: int, bit: int) -> None:
    damaged = bytearray(model(b"weights.onnx_data"))
    damaged[at] ^= 1 << bit
    try:
        check(tmp_path, bytes(damaged))
    except BadHeader as error:
        assert error.reason  # noqa: PT017
