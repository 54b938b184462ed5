"""A raw upstream that plays what it is told, byte for byte, and what comes of it behind the sender."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec import Struct

from openai_compat.config import Upstream, UpstreamModel
from openai_compat.errors import APIError
from openai_compat.gateway.order import Envelope, Failure, Order, UpstreamTarget
from openai_compat.gateway.upstreams.sender import UpstreamSender
from openai_compat.http.endpoint import Endpoint

PATIENCE = 30.0  # seconds after which a test gives up, never what it expects
KEY = "sk-secret-key-of-the-server-0123456789"
RESET, HANG = "reset", "hang"
Step = bytes | float | str


class Account:
    """A ``Tally`` that remembers."""

    def __init__(self) -> None:
        self.counts: list[tuple[int, int, int]] = []

    def aim(self, label: str, price: Any) -> None: ...

    def used(self, prompt: int, completion: int, cached: int = 0) -> None:
        self.counts.append((prompt, completion, cached))

    def forget(self) -> None: ...

    def passed(self, size: int) -> None: ...

    def close(self, *, complete: bool) -> None: ...


class Seen:
    """What came of one request: the answer, or the failure before it, and what ended the answer early."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.chunks: list[bytes] = []
        self.failure: Failure | None = None
        self.error: APIError | None = None
        self.account = Account()
        self.seconds = 0.0

    @property
    def said(self) -> str:
        """Every word for the client."""
        errors = [str(e.message) for e in (self.error, self.failure.error if self.failure else None) if e is not None]
        return " ".join([*errors, self.body.decode(errors="replace"), *self.headers.values()])


class Stage:
    """Plays ``steps`` to everybody who connects: bytes are sent, numbers are pauses in seconds."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = steps
        self.port = 0
        self.requests: list[bytes] = []
        self.sent = 0

    async def play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            for step in self._steps:
                if not await self._do(step, writer):
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _do(self, step: Step, writer: asyncio.StreamWriter) -> bool:
        if isinstance(step, bytes):
            writer.write(step)
            await writer.drain()
            self.sent += len(step)
        elif isinstance(step, float):
            await asyncio.sleep(step)
        elif step == HANG:
            await asyncio.sleep(PATIENCE)
        else:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
            return False
        return True


@asynccontextmanager
async def staged(steps: Sequence[Step]) -> AsyncIterator[Stage]:
    stage = Stage(steps)
    running: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(stage.play(reader, writer))
        running.add(task)
        await asyncio.gather(task, return_exceptions=True)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    stage.port = server.sockets[0].getsockname()[1]
    try:
        yield stage
    finally:
        server.close()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def order_of(account: Account, path: str, stream: bool | None, method: str, model: str | None, deadline: float) -> Order:
    lacking: Any = None
    return Order(
        method=method,
        path=path,
        query="",
        headers=[(b"content-type", b"application/json")],
        body=b'{"model":"public","messages":[]}' if method == "POST" else b"",
        envelope=Envelope(model=model, stream=stream),
        public_name="public",
        request_id="req_1",
        key_id="",
        deadline=time.monotonic() + deadline,
        tally=account,
        endpoint=Endpoint(request=Struct, plan=lambda _: "generate_text"),
        scope=lacking,
    )


async def ask(
    stage: Stage,
    *,
    path: str = "/v1/chat/completions",
    stream: bool | None = True,
    method: str = "POST",
    model: str | None = "public",
    remote: str = "public",
    hold: float = 5.0,
    ping: float = 15.0,
    deadline: float = PATIENCE,
    take: Callable[[bytes], Any] | None = None,
    **settings: Any,
) -> Seen:
    """One request through the real sender, to its end. ``settings`` are those of the upstream."""
    seen = Seen()
    upstream = Upstream(base_url=f"http://127.0.0.1:{stage.port}/secret/v1", headers={"x-api-key": KEY}, **settings)
    sender = UpstreamSender({"up": upstream}, hold=hold, ping_interval=ping)
    target = UpstreamTarget(upstream="up", model=UpstreamModel(), remote_name=remote, label="public")
    began = time.monotonic()
    try:
        async with sender.send(order_of(seen.account, path, stream, method, model, deadline), target) as answer:
            seen.status = answer.status
            seen.headers = {name.decode(): value.decode() for name, value in answer.headers}
            async for chunk in answer.chunks():
                seen.chunks.append(chunk)
                if take is not None:
                    await take(chunk)
    except Failure as failure:
        seen.failure = failure
    except APIError as error:
        seen.error = error
    finally:
        await sender.close()
    seen.body = b"".join(seen.chunks)
    seen.seconds = time.monotonic() - began
    return seen


@pytest.fixture
def perform() -> Callable[..., Seen]:
    """Ask once, of an upstream that plays these steps."""

    def performed(*steps: Step, **how: Any) -> Seen:
        async def go() -> Seen:
            async with asyncio.timeout(PATIENCE), staged(steps) as stage:
                return await ask(stage, **how)

        return asyncio.run(go())

    return performed


@pytest.fixture
def staging() -> Callable[..., Any]:
    """An upstream that plays these steps to everybody, within ``async with``."""
    return staged


@pytest.fixture
def asking() -> Callable[..., Any]:
    """One request to it, to be awaited."""
    return ask
