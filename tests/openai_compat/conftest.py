"""A real uvicorn on a Unix socket inside the test's own event loop, and a client that sees every byte."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest
import uvicorn


class Wire:
    """One raw HTTP/1.1 connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        lines = [f"{method} {path} HTTP/1.1", "host: test", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self.writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    async def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers of the next answer."""
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        return int(lines[0].split()[1]), headers

    async def chunk(self) -> bytes:
        """One chunk, which is one write of the server; empty at the end of the answer."""
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        return (await self.reader.readexactly(size + 2))[:-2]

    async def chunks(self) -> list[bytes]:
        return [chunk async for chunk in self._chunks()]

    async def _chunks(self) -> AsyncIterator[bytes]:
        while chunk := await self.chunk():
            yield chunk

    async def body(self, headers: dict[str, str]) -> bytes:
        return await self.reader.readexactly(int(headers["content-length"]))

    def leave(self) -> None:
        """Hang up without a word."""
        self.writer.transport.abort()


class Live:
    def __init__(self, server: uvicorn.Server, path: str, task: asyncio.Task[None]) -> None:
        self.server = server
        self.path = path
        self.task = task
        self.wires: list[Wire] = []

    async def connect(self) -> Wire:
        self.wires.append(Wire(*await asyncio.open_unix_connection(self.path)))
        return self.wires[-1]

    async def hang_up(self) -> None:
        for wire in self.wires:
            wire.writer.close()
            with contextlib.suppress(OSError):
                await wire.writer.wait_closed()

    async def stop(self) -> None:
        self.server.should_exit = True
        await self.task


@pytest.fixture
def live(tmp_path):
    """``async with live(app) as server`` serves ``app`` for as long as the block lasts."""

    @contextlib.asynccontextmanager
    async def live(app, grace: float = 0.2) -> AsyncIterator[Live]:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "live.sock"))
        config = uvicorn.Config(
            app, http="httptools", loop="none", ws="none", log_config=None, lifespan="on", timeout_graceful_shutdown=grace
        )
        server = uvicorn.Server(config)
        server.capture_signals = contextlib.nullcontext
        task = asyncio.ensure_future(server.serve([listener]))
        while not server.started:
            await asyncio.sleep(0.005)
        running = Live(server, str(tmp_path / "live.sock"), task)
        try:
            yield running
        finally:
            await running.hang_up()
            await running.stop()

    return live


@pytest.fixture
def in_time():
    """Run a coroutine to its end, but not for ever."""

    def in_time(coroutine, seconds: float = 30.0):
        async def limited():
            async with asyncio.timeout(seconds):
                return await coroutine

        return asyncio.run(limited())

    return in_time
