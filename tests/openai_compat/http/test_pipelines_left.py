"""A client that sent several requests at once, and leaves while the first is answered."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import uvicorn

from openai_compat.http.guard import GuardedProtocol

REQUEST = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"


def test_the_request_that_is_answered_learns_of_it() -> None:
    async def scenario() -> None:
        begun, told = asyncio.Event(), asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            begun.set()
            assert (await receive())["type"] == "http.disconnect"
            told.set()

        config = uvicorn.Config(app, http=GuardedProtocol, lifespan="off", log_config=None, access_log=False)
        server = uvicorn.Server(config)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            serving = asyncio.create_task(server.serve([listening]))
            _, writer = await asyncio.open_connection(*listening.getsockname())
            writer.write(REQUEST * 3)
            await asyncio.wait_for(begun.wait(), 5)
            await asyncio.sleep(0.05)  # for the others to be read
            writer.transport.abort()
            try:
                await asyncio.wait_for(told.wait(), 5)
            finally:
                server.should_exit = server.force_exit = True
                await serving

    asyncio.run(scenario())
