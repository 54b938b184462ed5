"""One file, one thread, one transaction a call, and steps that bring an older file up to date."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from openai_compat.config import ConfigError
from openai_compat.errors import Unavailable
from openai_compat.gateway.store.database import Database

FIRST = ("CREATE TABLE things (name TEXT)",)
SECOND = ("ALTER TABLE things ADD COLUMN color TEXT DEFAULT 'red'",)


def use(path: Path, migrations, work):
    async def scenario():
        database = Database(path, migrations)
        await database.open()
        try:
            return await work(database)
        finally:
            await database.close()

    return asyncio.run(scenario())


def add(name: str):
    return lambda database: database.run(lambda c: c.execute("INSERT INTO things (name) VALUES (?)", (name,)))


def read(database: Database):
    return database.run(lambda c: c.execute("SELECT * FROM things").fetchall())


def test_an_older_file_is_brought_up_to_date_and_keeps_what_it_holds(tmp_path: Path) -> None:
    use(tmp_path / "db", (FIRST,), add("cup"))
    assert use(tmp_path / "db", (FIRST, SECOND), read) == [("cup", "red")]
    assert use(tmp_path / "db", (FIRST, SECOND), read) == [("cup", "red")]


def test_the_file_of_a_newer_server_is_refused(tmp_path: Path) -> None:
    use(tmp_path / "db", (FIRST, SECOND), add("cup"))
    with pytest.raises(ConfigError, match="newer version"):
        use(tmp_path / "db", (FIRST,), read)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "db").write_bytes(b"no database" * 1000)
    with pytest.raises(ConfigError, match="cannot be used"):
        use(tmp_path / "db", (FIRST,), read)


def test_a_step_that_fails_leaves_nothing_of_itself(tmp_path: Path) -> None:
    use(tmp_path / "db", (FIRST,), add("cup"))
    with pytest.raises(ConfigError):
        use(tmp_path / "db", (FIRST, (*SECOND, "NONSENSE")), read)
    assert use(tmp_path / "db", (FIRST,), read) == [("cup",)]


def test_work_that_fails_changes_nothing(tmp_path: Path) -> None:
    def half(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO things VALUES ('half')")
        raise LookupError

    async def scenario(database: Database):
        with pytest.raises(LookupError):
            await database.run(half)
        return await read(database)

    assert use(tmp_path / "db", (FIRST,), scenario) == []


def test_a_full_disk_is_an_error_that_clients_understand(tmp_path: Path) -> None:
    async def scenario(database: Database) -> None:
        await database.run(lambda c: c.execute("PRAGMA max_page_count = 4"))
        await add("x" * 100_000)(database)

    with pytest.raises(Unavailable) as caught:
        use(tmp_path / "db", (FIRST,), scenario)
    assert caught.value.code == "storage_full"


def test_a_file_that_another_program_keeps_to_itself_is_an_error_that_clients_understand(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("openai_compat.gateway.store.database._PATIENCE", 0.1)

    async def locked(database: Database) -> None:
        other = sqlite3.connect(tmp_path / "a.sqlite3", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable) as caught:
            await add("one")(database)
        assert (caught.value.code, caught.value.retry_after) == ("storage_busy", 5)
        other.execute("ROLLBACK")
        other.close()
        await add("two")(database)
        assert await read(database) == [("two",)]

    use(tmp_path / "a.sqlite3", (FIRST,), locked)


def test_work_is_done_to_its_end_even_if_nobody_waits_any_more(tmp_path: Path) -> None:
    async def scenario(database: Database):
        task = asyncio.create_task(add("cup")(database))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await read(database)

    assert use(tmp_path / "db", (FIRST,), scenario) == [("cup",)]


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    async def scenario(database: Database):
        await add("cup")(database)
        return [stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()]

    assert set(use(tmp_path / "db", (FIRST,), scenario)) == {0o600}


def test_what_another_process_writes_is_seen_by_two_connections_of_this_one(tmp_path: Path) -> None:
    """Where the second took the first one's locks away, the other process would remove the log that both write to."""
    path = tmp_path / "state.sqlite3"
    program = (
        f"import sqlite3; c = sqlite3.connect({str(path)!r}); c.execute('INSERT INTO things VALUES (?)', ('far',)); c.commit()"
    )

    async def scenario() -> None:
        first, second = Database(path, (FIRST,)), Database(path, (FIRST,))
        for database in (first, second):
            await database.open()
        await add("near")(first)
        await asyncio.to_thread(subprocess.run, [sys.executable, "-c", program], check=True)
        await add("nearer")(second)
        assert await read(first) == await read(second) == [("near",), ("far",), ("nearer",)]
        assert path.with_name(path.name + "-wal").exists()
        for database in (first, second):
            await database.close()

    asyncio.run(scenario())
    assert use(path, (FIRST,), read) == [("near",), ("far",), ("nearer",)]
