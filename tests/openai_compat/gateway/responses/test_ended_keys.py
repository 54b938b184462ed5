"""What a key has asked for and has not begun is not begun any more once the key has ended."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from openai_compat.gateway.store.place import DATABASE
from openai_compat.keys.file import KeyFile
from openai_compat.keys.keeper import KeyKeeper
from schemas.admin import CreateKey, UpdateKey

RUNNING = "[[delay=0.02]] [[tokens=100]] sea"
MAY_NOT = "The key that asked for the response may not ask for it any more."


def keeping(folder: Path, work: Callable[[KeyKeeper], Any]) -> Any:
    """As another process changes the keys of a server."""

    async def run() -> Any:
        file = KeyFile(folder / DATABASE)
        try:
            return await work(KeyKeeper(file))
        finally:
            await file.close()

    return asyncio.run(run())


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def state(folder: Path, id: str) -> tuple[str, str | None]:
    """Its status, and what went wrong, as the file has them."""
    with closing(sqlite3.connect(folder / DATABASE)) as connection:
        status, body = connection.execute("SELECT status, body FROM objects WHERE id = ?", (id,)).fetchone()
    return status, (json.loads(body)["response"]["error"] or {}).get("message")


@pytest.mark.parametrize("how", ["revoked", "for other things"])
def test_what_waits_fails_and_what_runs_is_finished(served, bearer, kept: Path, how: str) -> None:
    with served(background_at_once=1) as client:
        client.ask("x")  # there is a file from now on
        made = keeping(kept, lambda keeper: keeper.create(CreateKey()))
        until(lambda: client.get("/v1/models", headers=bearer(made.secret)).status_code == 200)
        running = client.ask(RUNNING, key=made.secret, background=True).json()["id"]
        waiting = client.ask("x", key=made.secret, background=True).json()["id"]
        until(lambda: client.get(f"/v1/responses/{running}", headers=bearer(made.secret)).json()["status"] != "queued")
        if how == "revoked":
            keeping(kept, lambda keeper: keeper.revoke(made.key.id))
        else:
            keeping(kept, lambda keeper: keeper.update(made.key.id, UpdateKey(scopes=("embeddings",))))
        until(lambda: client.get(f"/v1/responses/{running}", headers=bearer(made.secret)).status_code in (401, 403))
        assert state(kept, waiting) == ("queued", None)
        until(lambda: state(kept, waiting)[0] != "queued")
        assert [state(kept, id) for id in (running, waiting)] == [("completed", None), ("failed", MAY_NOT)]
