"""Web servers that say what they are told to say, and a resolver that answers what it is told, for tests of fetching.

The servers are on this machine, so that a policy of the tests stands in for ``is_public``; nothing else is replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest
from msgspec import Struct

from openai_compat.errors import InvalidRequest
from openai_compat.media.dial import Policy
from openai_compat.media.fetch import Fetcher
from openai_compat.protocol import FetchRules

HOST = "pictures.example"
HERE = "127.0.0.1"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)
WAV = b"RIFF\x10\x00\x00\x00WAVEfmt " + bytes(20)
GRAIN = 0.05
PATIENCE = 20.0  # seconds after which a test gives up, never what it expects
RULES = FetchRules(max_bytes=1000, timeout=5.0)
Script = Callable[[asyncio.StreamWriter], Awaitable[None]]


class Part(Struct, frozen=True, kw_only=True):
    url: str
    param: str = "messages[0].content[0].image_url"
    kind: str = "picture"
    data: bytes = b""


def answer(body: bytes, *fields: str, status: str = "200 OK", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    head = [f"HTTP/1.1 {status}", f"Content-Length: {size}", *fields]
    return ("\r\n".join(head) + "\r\n\r\n").encode() + body


def moved(*locations: str, status: str = "302 Found") -> bytes:
    return answer(b"", *(f"Location: {location}" for location in locations), status=status)


class Site:
    """A web server that says by each path whatever it is told to say."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes | Script] = {"/a.png": answer(PNG)}
        self.requests: list[bytes] = []
        self.connections = 0
        self.open = 0
        self.most_open = 0
        self.port = 0
        self._serving: set[asyncio.Task[Any]] = set()

    @contextlib.asynccontextmanager
    async def up(self, host: str = HERE, port: int = 0, tls: ssl.SSLContext | None = None) -> AsyncIterator[Site]:
        server = await asyncio.start_server(self._serve, host, port, ssl=tls)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in tuple(self._serving):
                task.cancel()
            await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        self.connections += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._answer(reader, writer)
        finally:
            self.open -= 1
            self._serving.discard(task)
            writer.transport.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.requests.append(head)
        target = head.split(b" ")[1].decode()
        page = self.pages.get(target) or self.pages.get(target.partition("?")[0]) or answer(b"", status="404 Not Found")
        if isinstance(page, bytes):
            writer.write(page)
        else:
            await page(writer)
        await writer.drain()


class Names:
    """A resolver that answers what it is told, one answer after another, and counts."""

    def __init__(self, **more: Sequence[Sequence[str]]) -> None:
        self.answers = {HOST: [[HERE]], "other.example": [[HERE]]} | more
        self.asked: list[str] = []

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        found = self.answers.get(host)
        if found is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return found[min(len(found), self.asked.count(host)) - 1]


def play(scenario: Callable[[Site], Awaitable[None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(PATIENCE), Site().up() as site:
            await scenario(site)

    asyncio.run(run())


def fetcher(site: Site, names: Names | None = None, **changes: Any) -> Fetcher:
    """Lets this machine stand for the internet."""
    given = {
        "allowed": lambda address: address == HERE,
        "ports": frozenset({site.port}),
        "resolve": (names or Names()).resolve,
        "grain": GRAIN,
    }
    return Fetcher(Policy(**(given | changes)))


async def get(made: Fetcher, *urls: str, rules: FetchRules | None = RULES, **more: str) -> list[bytes]:
    parts = [Part(url=url, param=f"p{i}", **more) for i, url in enumerate(urls)]
    try:
        async with made.fetched(parts, rules) as found:
            return [found[part.param] for part in parts]
    finally:
        made.close()


async def refusal(made: Fetcher, *urls: str, rules: FetchRules = RULES, **more: str) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        await get(made, *urls, rules=rules, **more)
    return caught.value


def url_of(site: Site, path: str = "/a.png", host: str = HOST, scheme: str = "http") -> str:
    return f"{scheme}://{host}:{site.port}{path}"
