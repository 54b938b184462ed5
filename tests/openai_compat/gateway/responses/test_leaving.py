"""Clients who leave, over a real connection: the model's work ends, and of a whole answer nothing is kept."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from openai_compat.app import create_gateway
from openai_compat.config import Config, Model, Server
from openai_compat.config import Storage as Settings

SLOW = "[[delay=0.05]] [[tokens=4000]] sea"


def body(said: str, **fields: Any) -> bytes:
    return json.dumps({"model": "echo", "input": said, **fields}).encode()


def statuses(kept: Path) -> list[str]:
    connection = sqlite3.connect(next(kept.glob("*.sqlite*")))
    try:
        return [status for (status,) in connection.execute("SELECT status FROM objects ORDER BY number")]
    finally:
        connection.close()


@pytest.mark.parametrize(("stream", "left"), [(True, ["completed", "cancelled"]), (False, ["completed"])])
def test_who_leaves_lets_the_next_one_be_served(live, in_time, tmp_path: Path, stream: bool, left: list[str]) -> None:
    """The echo answers one at a time: were the first one's work to go on, it would take minutes."""
    (tmp_path / "nothing").mkdir()
    kept = tmp_path / "kept"
    config = Config(
        server=Server(inline=True, shutdown_grace=0.0),
        storage=Settings(dir=str(kept)),
        models={"echo": Model(source=str(tmp_path / "nothing"), kind="echo")},
    )

    gateway = create_gateway(config)

    async def served(scope: Any, receive: Any, send: Any) -> None:
        await gateway(scope, receive, send)

    async def ask(running: Any, **fields: Any) -> Any:
        wire = await running.connect()
        wire.writer.write(
            b"POST /v1/responses HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%b" % (len(fields["body"]), fields["body"])
        )
        return wire

    async def scenario() -> None:
        async with live(served) as running:
            wire = await ask(running, body=body("x"))
            _, head = await wire.head()
            await wire.body(head)
            wire = await ask(running, body=body(SLOW, stream=stream))
            if stream:
                await wire.head()
                while b"delta" not in await wire.chunk():
                    pass
            else:
                await asyncio.sleep(0.3)
            wire.leave()
            wire = await ask(running, body=body("next", store=False))
            status, head = await wire.head()
            assert (status, b'"next"' in await wire.body(head)) == (200, True)

    in_time(scenario())
    assert statuses(kept) == left
