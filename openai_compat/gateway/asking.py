"""Asking the relay in somebody's name: how requests in other shapes than OpenAI's chats become requests as all others are.

What is asked here passes by the key's limits, the routes and the fallbacks, and goes to local models and upstreams alike; the
one who asks reads the answer, whatever it is made into.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol, cast

from litestar.types import HTTPScope, Receive, Send
from msgspec import Struct

from openai_compat.errors import APIError, NotFound
from openai_compat.gateway.order import AGAIN
from openai_compat.gateway.refusals import refusal_of
from openai_compat.gateway.replica import Headers
from openai_compat.grants import Grant
from openai_compat.http.departure import DEPARTURE, Departure
from openai_compat.http.endpoint import Endpoint

_JSON = (b"content-type", b"application/json")
_REFUSALS = 400  # and above
_AHEAD = 4  # pieces of an answer that wait for their reader
LONGEST = 128 << 20
"""Bytes of an answer: what is read here is held in memory, and another server may never come to its end."""


class Serving(Protocol):
    """The part of the relay that is needed here."""

    async def serve(self, scope: HTTPScope, receive: Receive, send: Send, endpoint: Endpoint) -> None: ...


class Asker(Struct, frozen=True, kw_only=True):
    """In whose name a request is made. ``state`` is that of the connection, where there is one: what the relay notes about the
    request (its model, the key's limits) is left there too. ``again``: the same request was asked in other words before, and
    counted.
    """

    grant: Grant
    request_id: str
    headers: tuple[tuple[bytes, bytes], ...] = ()
    client: tuple[str, int] | None = None
    state: dict[str, Any] | None = None
    again: bool = False

    @classmethod
    def of(cls, scope: HTTPScope) -> Asker:
        """Whoever made the request of ``scope``; its headers about a body are left out."""
        state: dict[str, Any] = scope["state"]
        headers = tuple((name, value) for name, value in scope["headers"] if not name.startswith(b"content-"))
        return cls(
            grant=state["grant"],
            request_id=state.get("request_id", ""),
            headers=headers,
            client=scope["client"],
            state=state,
        )


class Reply:
    """An answer that is no refusal."""

    def __init__(self, way: _Way, status: int, headers: Headers) -> None:
        self._way = way
        self.status = status
        self.headers = headers

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Raises ``APIError`` when the answer breaks off without an error event, and when it is longer than ``LONGEST``."""
        left = LONGEST
        while (piece := await self._way.next()) is not None:
            if body := piece.get("body", b""):
                left -= len(body)
                if left < 0:
                    raise APIError("The model's answer is too long to be read.", retry=False)
                yield body
            if not piece.get("more_body", False):
                return
        raise APIError("The answer was broken off.")

    async def read(self) -> bytes:
        """The whole body."""
        return b"".join([chunk async for chunk in self.chunks()])


class Asking:
    """Asks whatever is in force when it is asked.

    Args:
        using: the relay in force, kept open meanwhile.
        endpoints: gives the relayed routes by their paths.
    """

    def __init__(
        self, using: Callable[[], AbstractAsyncContextManager[Serving]], endpoints: Callable[[], Mapping[str, Endpoint]]
    ) -> None:
        self._using = using
        self._endpoints = endpoints

    @asynccontextmanager
    async def open(self, path: str, body: bytes, asker: Asker) -> AsyncIterator[Reply]:
        """The answer to a POST of JSON. Leaving before its end cancels the work.

        Raises ``APIError`` for a refusal, with its status, type, code and times as far as there is a type of error for them.
        """
        endpoint = self._endpoints().get(path)
        if endpoint is None:
            raise NotFound(f"There is no route {path}.")
        way, departure = _Way(), Departure()
        inner = _scope(path, asker, departure)
        async with self._using() as relay:
            work = relay.serve(inner, cast(Receive, _body(body, departure)), cast(Send, way.send), endpoint)
            serving = asyncio.get_running_loop().create_task(way.watch(work))
            try:
                reply = await _begun(way)
                _tell(asker, inner)
                yield reply
            finally:
                departure.tell()
                way.leave()
                await serving
                _tell(asker, inner)


class _Way:
    """The way of an answer's pieces from the task that makes them to the one that reads; a few may wait on it."""

    def __init__(self) -> None:
        self._pieces: asyncio.Queue[Any] = asyncio.Queue()
        self._room = asyncio.Semaphore(_AHEAD)
        self._left = False

    async def send(self, piece: Any) -> None:
        if not self._left:
            await self._room.acquire()
        if not self._left:
            self._pieces.put_nowait(piece)

    async def watch(self, work: Awaitable[None]) -> None:
        """Whatever becomes of ``work``, the reader learns of it."""
        try:
            await work
        except Exception as error:
            self._pieces.put_nowait(error)
        finally:
            self._pieces.put_nowait(None)

    async def next(self) -> Any:
        """None after the last one. Raises what ``work`` has raised."""
        piece = await self._pieces.get()
        self._room.release()
        if isinstance(piece, Exception):
            raise piece
        return piece

    def leave(self) -> None:
        """Nobody reads any more."""
        self._left = True
        self._room.release()


def _scope(path: str, asker: Asker, departure: Departure) -> HTTPScope:
    state = {
        "grant": asker.grant,
        "key_id": asker.grant.key_id,
        "request_id": asker.request_id,
        DEPARTURE: departure,
        AGAIN: asker.again,
    }
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "path_template": path,
        "query_string": b"",
        "headers": [*asker.headers, _JSON],
        "client": asker.client,
        "state": state,
    }
    return cast(HTTPScope, scope)


def _body(body: bytes, departure: Departure) -> Callable[[], Awaitable[dict[str, Any]]]:
    """The body once; then nothing until the one who asks has left."""
    unread = [body]

    async def receive() -> dict[str, Any]:
        if unread:
            return {"type": "http.request", "body": unread.pop(), "more_body": False}
        if not departure.over:
            left = asyncio.Event()
            departure.calls.append(left.set)
            await left.wait()
        return {"type": "http.disconnect"}

    return receive


async def _begun(way: _Way) -> Reply:
    """Raises ``APIError``."""
    start = await way.next()
    if start is None:
        raise APIError("The request was not answered.")
    reply = Reply(way, start["status"], list(start["headers"]))
    if reply.status >= _REFUSALS:
        raise refusal_of(reply.status, reply.headers, await reply.read())
    return reply


def _tell(asker: Asker, inner: HTTPScope) -> None:
    if asker.state is not None:
        asker.state.update({name: value for name, value in inner["state"].items() if name in ("model", "headers")})
