"""Sockets in the file system: who may open them, and what is in the way."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from openai_compat.http.listening import ListenError, clear_away, listen_at, listen_unix


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


def test_only_this_user_can_open_it_and_somebody_can(folder: Path) -> None:
    with listen_at(f"unix:{folder}/a.sock"):
        found = (folder / "a.sock").stat()
        assert stat.S_IMODE(found.st_mode) == 0o600
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(folder / "a.sock"))


def test_what_a_dead_server_has_left_is_replaced(folder: Path) -> None:
    listen_unix(folder / "a.sock").close()
    listen_unix(folder / "a.sock").close()


def test_a_server_that_lives_keeps_its_socket(folder: Path) -> None:
    with listen_unix(folder / "a.sock"):
        with pytest.raises(ListenError, match="Another server listens"):
            listen_unix(folder / "a.sock")
        clear_away(f"unix:{folder}/a.sock")
        assert (folder / "a.sock").exists()


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_no_socket_is_not_touched(folder: Path, kind: str) -> None:
    path, other = folder / "a.sock", folder / "other"
    other.write_text("precious")
    {"file": lambda: path.write_text("precious"), "folder": path.mkdir, "link": lambda: path.symlink_to(other)}[kind]()
    with pytest.raises(ListenError, match="not replaced"):
        listen_unix(path)
    clear_away(f"unix:{path}")
    assert path.exists()
    assert other.read_text() == "precious"


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o702])
def test_a_folder_that_everybody_can_write_is_refused(folder: Path, mode: int) -> None:
    folder.chmod(mode)
    with pytest.raises(ListenError, match="written by everybody"):
        listen_unix(folder / "a.sock")


@pytest.mark.parametrize("name", ["nowhere/a.sock", "a" * 200])
def test_what_cannot_be_listened_on_is_one_line(folder: Path, name: str) -> None:
    with pytest.raises(ListenError) as refusal:
        listen_unix(folder / name)
    assert "\n" not in str(refusal.value)


def test_the_file_goes_with_its_server(folder: Path) -> None:
    listen_unix(folder / "a.sock").close()
    clear_away(f"unix:{folder}/a.sock")
    assert os.listdir(folder) == []
    clear_away(f"unix:{folder}/a.sock")


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
def test_an_address_with_a_port_is_tcp(host: str) -> None:
    try:
        listener = listen_at(f"{host}:0")
    except ListenError:
        pytest.skip("this machine has no such address")
    with listener:
        assert listener.getsockname()[1]
