"""The library is built once, safely, and its absence is said and not fatal."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from handlers.decoding.kernels import compiler
from handlers.decoding.kernels.compiler import NotBuilt, library


def fake_compiler(folder: Path, script: str) -> Path:
    path = folder / "fake-c++"
    path.write_text(f'#!/bin/sh\nif [ "$1" = --version ]; then echo "fake 1"; exit; fi\n{script}\n')
    path.chmod(0o755)
    return path


@pytest.fixture
def able(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "_processor_flags", lambda: compiler.NEEDED)


@pytest.mark.usefixtures("able")
def test_no_compiler_is_said_in_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(compiler, "find_spec", lambda name: None)
    with pytest.raises(NotBuilt, match=r"no C\+\+ compiler; .*openai-compat\[compiler\]"):
        library(tmp_path / "cache")


@pytest.mark.usefixtures("able")
def test_the_packaged_compiler_serves_where_the_machine_has_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(compiler, "find_spec", lambda name: name)
    (tmp_path / "c++").symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert compiler.check()[1] == (str(tmp_path / "c++"),)
    (tmp_path / "c++").unlink()
    assert compiler.check()[1][-2:] == ("ziglang", "c++")


def test_an_older_processor_is_said_in_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(compiler, "_processor_flags", lambda: frozenset({"sse2"}))
    with pytest.raises(NotBuilt, match=r"lacks .*avx512_vnni"):
        library(tmp_path)


@pytest.mark.usefixtures("able")
def test_a_failed_build_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", str(fake_compiler(tmp_path, "exit 1")))
    with pytest.raises(NotBuilt, match="failed"):
        library(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.usefixtures("able")
def test_a_second_start_builds_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = f'echo built >> {log}\nwhile [ $# -gt 1 ]; do shift; done\necho code > "$1"'
    monkeypatch.setenv("CXX", str(fake_compiler(tmp_path, script)))
    monkeypatch.setattr(compiler, "_check_owner", lambda path: None)
    first = library(tmp_path / "cache")
    assert library(tmp_path / "cache") == first
    assert first.read_text() == "code\n"
    assert log.read_text() == "built\n"


@pytest.mark.usefixtures("able")
def test_a_folder_that_others_may_write_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", str(fake_compiler(tmp_path, "exit 1")))
    tmp_path.chmod(0o777)
    with pytest.raises(NotBuilt):
        library(tmp_path)


@pytest.mark.usefixtures("able")
@pytest.mark.parametrize("home", ["unwritable", "unknown"])
def test_without_a_home_they_are_built_among_temporary_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: str
) -> None:
    script = 'while [ $# -gt 1 ]; do shift; done\n(umask 077; echo code > "$1")'
    monkeypatch.setenv("CXX", str(fake_compiler(tmp_path, script)))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if home == "unwritable":  # a file in the way stops root, too
        (tmp_path / "file").touch()
        monkeypatch.setenv("HOME", str(tmp_path / "file"))
    else:
        monkeypatch.setattr(Path, "expanduser", no_home)
    assert library().parent == tmp_path / f"openai-compat-kernels-{os.getuid()}"


def no_home(path: Path) -> Path:
    raise RuntimeError("Could not determine home directory.")


@pytest.mark.usefixtures("able")
def test_a_link_to_a_library_is_not_followed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = 'while [ $# -gt 1 ]; do shift; done\n(umask 077; echo code > "$1")'
    monkeypatch.setenv("CXX", str(fake_compiler(tmp_path, script)))
    (tmp_path / "link").symlink_to(tmp_path / "cache")
    library(tmp_path / "cache")
    with pytest.raises(NotBuilt):
        library(tmp_path / "link")
