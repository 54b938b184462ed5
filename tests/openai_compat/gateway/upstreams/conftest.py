"""Orders for upstreams, and servers on the loopback that read whole requests and keep their connections."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from msgspec import Struct, convert

from openai_compat.config import Price, Upstream, UpstreamModel
from openai_compat.gateway.order import Envelope, Order, UpstreamTarget
from openai_compat.gateway.upstreams.sender import UpstreamSender
from openai_compat.http.endpoint import Endpoint

CHAT = "/v1/chat/completions"


class RecordingTally:
    """An account that remembers what it was told."""

    def __init__(self) -> None:
        self.label = ""
        self.aims: list[tuple[str, Price]] = []

    def aim(self, label: str, price: Price) -> None:
        self.label = label
        self.aims.append((label, price))

    def used(self, prompt: int, completion: int, cached: int = 0) -> None: ...

    def awaits(self) -> Callable[[Any], None]:
        return lambda _: None

    def forget(self) -> None: ...

    def passed(self, size: int) -> None: ...

    def close(self, *, complete: bool, failed: bool = False) -> None: ...


def make_order(body: Any = None, raw: Any = None, **more: Any) -> Order:
    """A request for a chat with ``model`` "public", unless the arguments say something else; ``raw`` is sent as it is."""
    data = json.dumps({"model": "public", "messages": []} if body is None else body).encode()
    fields: dict[str, Any] = {
        "method": "POST",
        "path": CHAT,
        "query": "",
        "headers": [(b"content-type", b"application/json")],
        "body": data if raw is None else raw,
        "envelope": convert(json.loads(data), Envelope),
        "public_name": "public",
        "request_id": "req-1",
        "key_id": "key",
        "deadline": time.monotonic() + 60,
        "tally": RecordingTally(),
        "endpoint": Endpoint(request=Struct, plan=lambda _: "generate_text"),
        "scope": {},
    }
    return Order(**(fields | more))


def make_target(remote: str = "public", **rules: Any) -> UpstreamTarget:
    return UpstreamTarget(upstream="up", model=UpstreamModel(**rules), remote_name=remote, label="label")


class Visit:
    """One request as the server sees it: the ``number``-th on the ``connection``-th."""

    def __init__(self, connection: int, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connection = connection
        self.number = number
        self.reader = reader
        self.writer = writer
        self.line = ""
        self.headers: dict[str, str] = {}
        self.body = b""

    async def read(self) -> None:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        self.line = head[0]
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        self.body = await self.reader.readexactly(int(self.headers.get("content-length", 0)))

    def answer(self, body: bytes = b'{"choices":[{}]}', status: str = "200 OK", **headers: str) -> None:
        names = {"content-type": "application/json", "content-length": str(len(body))}
        names |= {name.replace("_", "-"): value for name, value in headers.items()}
        head = "".join(f"{name}: {value}\r\n" for name, value in names.items())
        self.writer.write(f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body)

    async def left(self) -> bool:
        """Waits until the other side has closed the connection."""
        return await self.reader.read(1) == b""


class Server:
    """Plays an upstream. ``visits`` are the requests so far, ``connections`` counts what they came on."""

    def __init__(self, answering: Callable[[Visit], Awaitable[None]] | None) -> None:
        self._answering = answering
        self.visits: list[Visit] = []
        self.connections = 0
        self.port = 0

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection, number = self.connections, 0
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while not writer.is_closing():
                number += 1
                visit = Visit(connection, number, reader, writer)
                await visit.read()
                self.visits.append(visit)
                if self._answering is None:
                    visit.answer()
                else:
                    await self._answering(visit)
                await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def serving(answering: Callable[[Visit], Awaitable[None]] | None = None, **listen: Any) -> AsyncIterator[Server]:
    server = Server(answering)
    tasks: set[asyncio.Task[Any]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            tasks.add(task)
        try:
            await server.serve(reader, writer)
        finally:
            writer.transport.abort()

    listening = await asyncio.start_server(connected, "127.0.0.1", 0, **listen)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # for the loop to let go of the sockets


@contextlib.asynccontextmanager
async def sending(base: str, **settings: Any) -> AsyncIterator[UpstreamSender]:
    sender = UpstreamSender({"up": Upstream(base_url=base, **settings)}, hold=5, ping_interval=5)
    try:
        yield sender
    finally:
        await sender.close()


async def body_from(sender: UpstreamSender, order: Order, target: UpstreamTarget | None = None) -> bytes:
    async with sender.send(order, target or make_target()) as answer:
        return b"".join([chunk async for chunk in answer.chunks()])


@pytest.fixture(name="make_order")
def _make_order() -> Callable[..., Order]:
    return make_order


@pytest.fixture(name="make_target")
def _make_target() -> Callable[..., UpstreamTarget]:
    return make_target


@pytest.fixture(name="serving")
def _serving() -> Callable[..., contextlib.AbstractAsyncContextManager[Server]]:
    return serving


@pytest.fixture(name="sending")
def _sending() -> Callable[..., contextlib.AbstractAsyncContextManager[UpstreamSender]]:
    return sending


@pytest.fixture(name="body_from")
def _body_from() -> Callable[..., Awaitable[bytes]]:
    return body_from
