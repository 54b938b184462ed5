"""A replica is anything that answers OpenAI HTTP: a worker process behind a Unix socket, or an application in this process."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager
from functools import lru_cache
from typing import Any, Protocol

import aiohttp
from msgspec import Struct
from multidict import CIMultiDict
from yarl import URL

from openai_compat.errors import Unavailable
from openai_compat.gateway.spool import Body

Headers = list[tuple[bytes, bytes]]
Message = MutableMapping[str, Any]
ASGIApp = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]
# Far below the worker's own keep-alive time, so that it never closes a connection that we are about to use.
_KEEP_ALIVE = 60.0
_CONNECT_TIMEOUT = 5.0
_READ_BUFFER = 1 << 16
# What keeps this process from connecting to anybody: no reason to think that the worker is dead.
_OUR_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class NotBegun(Exception):
    """The replica could not be reached: the request has not begun there and may go elsewhere."""


class ReplicaLost(Exception):
    """The replica broke off; how far the request came is not known."""


class Call(Struct, frozen=True):
    """One request for a replica. ``target`` is the path with its query; a body in pieces can be read more than once."""

    method: str
    target: str
    headers: Headers
    body: bytes | Body

    @property
    def length(self) -> int:
        """Bytes of the body."""
        return len(self.body) if isinstance(self.body, bytes) else self.body.size


class Answer(Protocol):
    """The answer of a replica. ``chunks`` raises ``ReplicaLost`` when it breaks off."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Headers: ...

    def chunks(self) -> AsyncIterator[bytes]: ...


class Replica(Protocol):
    """Leaving the context before the answer's end closes the connection, which cancels the work."""

    def forward(self, call: Call) -> AbstractAsyncContextManager[Answer]: ...

    async def close(self) -> None: ...


class _HTTPAnswer:
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.status = response.status
        self.headers: Headers = list(response.raw_headers)
        self._content = response.content

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._content.iter_any():
                yield chunk
        except (aiohttp.ClientError, OSError) as error:
            raise ReplicaLost from error


class _Exchange:
    """One request to a worker and its answer. A class, since a generator as context manager costs a request 10 µs more."""

    def __init__(self, replica: WorkerReplica, call: Call) -> None:
        self._replica = replica
        self._call = call
        self._response: aiohttp.ClientResponse | None = None

    async def __aenter__(self) -> Answer:
        self._response = await self._replica.send(self._call)
        del self._call  # a stream may last for hours
        return _HTTPAnswer(self._response)

    async def __aexit__(self, *_: object) -> None:
        # After the end of the answer this changes nothing: the connection went back to the pool then.
        if self._response is not None:
            self._response.close()


@lru_cache(maxsize=256)
def _url(target: str) -> URL:
    return URL("http://worker" + target, encoded=True)


class WorkerReplica:
    """A worker process, reached over the Unix socket at ``path``."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._session: aiohttp.ClientSession | None = None

    def forward(self, call: Call) -> _Exchange:
        return _Exchange(self, call)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(self, call: Call) -> aiohttp.ClientResponse:
        """Returns when the answer begins. Raises ``NotBegun``, ``ReplicaLost``, or ``Unavailable`` where we lack the means."""
        headers = CIMultiDict([(name.decode("latin-1"), value.decode("latin-1")) for name, value in call.headers])
        if self._session is not None and self._session.closed:
            raise NotBegun
        if not isinstance(call.body, bytes):
            headers["Content-Length"] = str(call.length)  # else it would go in chunks
        data = call.body if isinstance(call.body, bytes) else call.body.pieces()
        try:
            return await self._open().request(call.method, _url(call.target), headers=headers, data=data, allow_redirects=False)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, FileNotFoundError) as error:
            if error.errno in _OUR_SHORTAGES:
                raise Unavailable("The server has too many open connections.", retry_after=1) from error
            raise NotBegun from error
        except (aiohttp.ClientError, OSError) as error:
            raise ReplicaLost from error

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(path=self._path, limit=0, keepalive_timeout=_KEEP_ALIVE),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=("User-Agent", "Accept-Encoding", "Accept"),
                read_bufsize=_READ_BUFFER,
            )
        return self._session


class _InlineAnswer:
    """What an application in this process sends, as it sends it."""

    def __init__(self, start: Message, messages: asyncio.Queue[Message | None]) -> None:
        self.status: int = start["status"]
        self.headers: Headers = [(bytes(k), bytes(v)) for k, v in start.get("headers", ())]
        self._messages = messages

    async def chunks(self) -> AsyncIterator[bytes]:
        while (message := await self._messages.get()) is not None:
            if body := message.get("body"):
                yield body
            if not message.get("more_body"):
                return
        raise ReplicaLost


class InlineReplica:
    """The worker's application in this process, called with the body replayed."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    @contextlib.asynccontextmanager
    async def forward(self, call: Call) -> AsyncIterator[Answer]:
        messages: asyncio.Queue[Message | None] = asyncio.Queue(maxsize=1)
        left = asyncio.Event()
        task = asyncio.get_running_loop().create_task(self._run(call, messages, left))
        try:
            start = await messages.get()
            if start is None:
                raise ReplicaLost
            yield _InlineAnswer(start, messages)
        finally:
            await _leave(task, messages, left)

    async def close(self) -> None:
        """Nothing is held open."""

    async def _run(self, call: Call, messages: asyncio.Queue[Message | None], left: asyncio.Event) -> None:
        body = _replayed(call)

        async def receive() -> Message:
            if (message := await anext(body, None)) is not None:
                return message
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if not left.is_set():
                await messages.put(message)

        try:
            await self._app(_scope(call), receive, send)
        finally:
            if not left.is_set():
                await messages.put(None)


async def _replayed(call: Call) -> AsyncIterator[Message]:
    if isinstance(call.body, bytes):
        yield {"type": "http.request", "body": call.body, "more_body": False}
        return
    async for piece in call.body.pieces():
        yield {"type": "http.request", "body": piece, "more_body": True}
    yield {"type": "http.request", "body": b"", "more_body": False}


async def _leave(task: asyncio.Task[None], messages: asyncio.Queue[Message | None], left: asyncio.Event) -> None:
    """Tell the application that nobody listens any more, and let it finish in its own time."""
    left.set()
    while not messages.empty():
        messages.get_nowait()
    if not task.done():
        task.add_done_callback(_observe)
        await asyncio.sleep(0)
    else:
        _observe(task)


def _observe(task: asyncio.Task[None]) -> None:
    """The application has answered or reported its own errors; nothing is left to tell."""
    if not task.cancelled():
        task.exception()


def _scope(call: Call) -> dict[str, Any]:
    path, _, query = call.target.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": call.method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("latin-1"),
        "query_string": query.encode("latin-1"),
        "root_path": "",
        "headers": [*call.headers, (b"content-length", str(call.length).encode())],
        "client": None,
        "server": None,
        "state": {},
    }
