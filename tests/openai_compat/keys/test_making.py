"""Whose the file of keys is: its maker's, or that of whoever has the place where root makes it."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from openai_compat.keys.making import make_file

SOMEBODY = 54321
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file for another user")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_file_and_its_folder_are_for_one_user_only(tmp_path) -> None:
    path = tmp_path / "cache" / "storage" / "port-8000" / "state.sqlite3"
    make_file(path)
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)
    assert path.stat().st_size == 0


@as_root
def test_what_root_makes_in_another_users_folder_is_that_users(tmp_path) -> None:
    os.chown(tmp_path, SOMEBODY, SOMEBODY)
    path = tmp_path / "storage" / "port-8000" / "state.sqlite3"
    make_file(path)
    for made in (path, path.parent, path.parent.parent):
        assert (made.stat().st_uid, made.stat().st_gid) == (SOMEBODY, SOMEBODY), made


@as_root
def test_what_is_there_stays_whose_it_is(tmp_path) -> None:
    path = tmp_path / "kept" / "state.sqlite3"
    make_file(path)
    path.write_text("keys")
    os.chown(path.parent, SOMEBODY, SOMEBODY)
    make_file(path)
    assert (path.stat().st_uid, path.read_text()) == (0, "keys")


def test_many_may_make_it_at_the_same_moment(tmp_path) -> None:
    path = tmp_path / "a" / "b" / "c" / "state.sqlite3"
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(make_file, [path] * 8))
    assert path.is_file()


def test_a_file_in_the_way_is_the_systems_error(tmp_path) -> None:
    (tmp_path / "kept").write_text("")
    with pytest.raises(NotADirectoryError):
        make_file(tmp_path / "kept" / "state.sqlite3")
