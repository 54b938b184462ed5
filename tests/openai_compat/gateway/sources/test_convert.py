"""What is converted, and what is said when that fails. The conversion itself is tested with its module."""

from __future__ import annotations

from pathlib import Path

import pytest

from openai_compat.gateway.sources.convert import convert, gguf_in
from openai_compat.gateway.sources.types import PullFailed


def nothing(done: int, total: int) -> None: ...


def test_the_gguf_of_a_folder_is_found_unless_it_has_safetensors(tmp_path: Path) -> None:
    assert gguf_in(tmp_path) is None
    (tmp_path / "m.gguf").touch()
    assert gguf_in(tmp_path) == gguf_in(tmp_path / "m.gguf") == tmp_path / "m.gguf"
    (tmp_path / "model.safetensors").touch()
    assert gguf_in(tmp_path) is None


def test_the_childs_reason_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"not gguf")
    with pytest.raises(PullFailed, match=r"m.gguf cannot be converted: m.gguf: this is not a GGUF file"):
        convert(tmp_path / "m.gguf", tmp_path / "out", nothing)
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]
