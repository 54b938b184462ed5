"""Where a server keeps its results, and that no two servers share a place."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from pathlib import Path

import pytest

from openai_compat.config import Config, ConfigError, Server
from openai_compat.config import Storage as Settings
from openai_compat.errors import Unavailable
from openai_compat.gateway.store.database import full
from openai_compat.gateway.store.folder import MediaFolder
from openai_compat.gateway.store.storage import Storage


def default(tmp_path: Path, port: int = 8000) -> Storage:
    return Storage(Config(server=Server(cache_dir=str(tmp_path), port=port)))


def folders(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "storage").iterdir())


def test_nothing_is_made_before_something_is_kept(tmp_path: Path, in_time) -> None:
    async def scenario() -> None:
        storage = default(tmp_path)
        assert await storage.start() is None
        assert list(tmp_path.iterdir()) == []
        await storage.open()
        await storage.close()
        again = default(tmp_path)
        assert await again.start() is not None
        await again.close()
        assert folders(tmp_path) == ["port-8000"]

    in_time(scenario())


@pytest.mark.parametrize("error", [full(), sqlite3.OperationalError("database is locked"), OSError(5, "I/O error")])
def test_what_has_expired_is_looked_for_again_after_a_failure(tmp_path: Path, in_time, monkeypatch, error: Exception) -> None:
    looks: list[int] = []
    enough = asyncio.Event()

    async def expire(self: MediaFolder) -> None:
        looks.append(1)
        if len(looks) < 3:
            raise error
        enough.set()

    monkeypatch.setattr(MediaFolder, "expire", expire)
    monkeypatch.setattr("openai_compat.gateway.store.storage._SWEEP", 0.01)

    async def scenario() -> None:
        storage = default(tmp_path)
        await storage.open()
        await enough.wait()
        await storage.close()

    in_time(scenario())


def test_a_second_server_on_a_configured_folder_refuses_to_start(tmp_path: Path, in_time) -> None:
    async def scenario() -> None:
        first, second = (Storage(Config(storage=Settings(dir=str(tmp_path / "mine")))) for _ in range(2))
        await first.start()
        with pytest.raises(ConfigError, match="another server keeps its results"):
            await second.start()
        await first.close()
        await second.start()
        await second.close()

    in_time(scenario())


@pytest.mark.parametrize("port", [0, 8000])
def test_a_server_that_finds_no_place_of_its_own_gets_one_that_ends_with_it(tmp_path: Path, in_time, port: int) -> None:
    async def scenario() -> None:
        first, second = default(tmp_path, 8000), default(tmp_path, port)
        await first.open()
        await second.open()
        assert len(folders(tmp_path)) == 2
        await second.close()
        assert folders(tmp_path) == ["port-8000"]
        await first.close()

    in_time(scenario())


def test_the_passing_folder_of_a_killed_server_is_removed_by_the_next(tmp_path: Path, in_time) -> None:
    async def scenario() -> None:
        left = tmp_path / "storage" / "passing-dead"
        left.mkdir(parents=True)
        (left / "lock").touch()
        (left / "secret.png").touch()
        storage = default(tmp_path, 0)
        await storage.open()
        assert "passing-dead" not in folders(tmp_path)
        await storage.close()

    in_time(scenario())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_named_at_the_start(tmp_path: Path, in_time) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match="cannot be used"):
        in_time(Storage(Config(storage=Settings(dir=str(tmp_path / "x")))).start())


def test_where_there_is_no_place_at_all_the_request_is_refused_and_the_server_lives(tmp_path: Path, in_time) -> None:
    (tmp_path / "storage").touch()
    with pytest.raises(Unavailable) as caught:
        in_time(default(tmp_path).open())
    assert caught.value.code == "storage_unavailable"


def test_a_damaged_store_in_the_usual_folder_does_not_keep_the_server_from_starting(tmp_path: Path, in_time, caplog) -> None:
    folder = tmp_path / "storage" / "port-8000"
    folder.mkdir(parents=True)
    (folder / "state.sqlite3").write_bytes(b"no database" * 1000)
    storage = default(tmp_path)
    assert in_time(storage.start()) is None
    assert "state.sqlite3 cannot be used" in caplog.text
