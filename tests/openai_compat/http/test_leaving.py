"""A client that sent a long body, and leaves while it is answered."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
import uvicorn

from openai_compat.http.departure import DEPARTURE
from openai_compat.http.guard import GuardedProtocol

HEAD = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"


@pytest.mark.parametrize("size", [10, 100_000, 3_000_000])
def test_the_departure_is_told_whatever_the_size_of_the_last_piece(size: int) -> None:
    async def scenario() -> None:
        waits, has_all, told = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            waits.set()
            while (await receive())["more_body"]:
                pass
            scope["state"][DEPARTURE].calls.append(told.set)
            has_all.set()
            await told.wait()

        config = uvicorn.Config(app, http=GuardedProtocol, lifespan="off", log_config=None, access_log=False)
        server = uvicorn.Server(config)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            serving = asyncio.create_task(server.serve([listening]))
            _, writer = await asyncio.open_connection(*listening.getsockname())
            writer.write(HEAD % size)
            await asyncio.wait_for(waits.wait(), 5)
            writer.write(b"x" * size)
            await asyncio.wait_for(has_all.wait(), 5)
            writer.transport.abort()
            try:
                await asyncio.wait_for(told.wait(), 5)
            finally:
                told.set()
                server.should_exit = server.force_exit = True
                await serving

    asyncio.run(scenario())
