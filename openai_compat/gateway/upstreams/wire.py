"""One request in one write, and the head of its answer.

Connections with their TLS, the pool, and the parser are aiohttp's. Left out is what its session does for requests of every kind
(cookies, redirects, bodies of many types, a task that writes), which takes three times as long as all the rest.
"""

from __future__ import annotations

import asyncio
import select
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.helpers import TimerNoop
from aiohttp.http_parser import RawResponseMessage
from aiohttp.streams import StreamReader
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from openai_compat.errors import InvalidRequest
from openai_compat.gateway.replica import Headers
from openai_compat.gateway.upstreams.reader import Few, lean

READ_BUFFER = 1 << 16
LONGEST_HEADER = 1 << 15
_SWITCHING = 101
_FIRST_FINAL = 200
_NO_CONTENT = 204
_FIRST_OTHER = 300
_NEW_POLL: Any = getattr(select, "poll", None)  # Windows has none
_NO_BODY = frozenset({"GET", "HEAD"})
_TIMER = TimerNoop()
_NO_HEADERS: CIMultiDictProxy[str] = CIMultiDictProxy(CIMultiDict())


class Handler(ResponseHandler):
    """One connection, which knows whether it ``served`` before.

    It serves again only where both sides surely agree about where an answer ended: else the next request, which may be another
    client's, would get the rest of this one's. Servers that refuse before they have read the body may take it for the next
    request, and answer that too; some send a body where there is none.
    """

    served = False
    _poll: Any = None
    _buffer: Any

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._buffer = Few()

    def set_response_params(self, **params: Any) -> None:
        """Before a request. What has come by now answers none."""
        if self._tail:
            self.force_close()
        super().set_response_params(**params)

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """The head of an answer."""
        code = data[0].code
        if code >= _FIRST_FINAL and (code == _NO_CONTENT or code >= _FIRST_OTHER or self._is_sending()):
            self.force_close()
        lean(data[1])
        super().feed_data(data, size)

    def is_quiet(self) -> bool:
        """Whether nothing has come that nobody asked for: it would be taken for the next answer."""
        return not self.should_close and not self._has_come()

    def _has_come(self) -> bool:
        """Whether there are bytes, or an end, that the event loop has not handed over yet."""
        if self._poll is None:
            channel = None if self.transport is None else self.transport.get_extra_info("socket")
            if channel is None or _NEW_POLL is None or channel.fileno() < 0:
                return False
            self._poll = _NEW_POLL()
            self._poll.register(channel.fileno(), select.POLLIN)
        return bool(self._poll.poll(0))

    def _is_sending(self) -> bool:
        return self.transport is not None and self.transport.get_write_buffer_size() > 0


class Reply:
    """An answer whose head is there. At its end the connection goes back to the pool by itself."""

    __slots__ = ("connection", "content", "headers", "raw_headers", "status")

    def __init__(self, message: RawResponseMessage, content: StreamReader, connection: Connection) -> None:
        self.status: int = message.code
        self.headers: CIMultiDictProxy[str] = message.headers
        self.raw_headers: tuple[tuple[bytes, bytes], ...] = message.raw_headers
        self.content = content
        self.connection = connection
        content.on_eof(connection.release)

    def forget_head(self) -> None:
        """It has been read, and a stream may last for hours."""
        self.headers, self.raw_headers = _NO_HEADERS, ()

    def close(self) -> None:
        """Also closes the connection, unless it is in the pool already, and tells whoever reads still."""
        if self.connection.protocol is None:
            return
        if self.content.exception() is None:
            self.content.set_exception(aiohttp.ClientConnectionError("closed"))
        self.connection.close()


def packed(method: str, url: URL, headers: Headers, body: bytes) -> bytes:
    """The bytes of a request. Raises ``InvalidRequest`` for a header that would be two."""
    lines = [f"{method} {url.raw_path_qs} HTTP/1.1\r\nhost: {url.host_port_subcomponent}\r\n".encode("latin-1")]
    lines += [name + b": " + value + b"\r\n" for name, value in headers]
    if body or method not in _NO_BODY:
        lines.append(b"content-length: %d\r\n" % len(body))
    head = b"".join(lines)
    ends = len(lines) + 1
    if head.count(b"\n") != ends or head.count(b"\r") != ends:
        raise InvalidRequest("A header of the request holds a line break.")
    return head + b"\r\n" + body


async def exchange(connection: Connection, method: str, request: bytes, first_byte_timeout: float) -> Reply:
    """Raises what aiohttp raises; then the connection is closed."""
    try:
        protocol = connection.protocol
        if protocol is None or protocol.transport is None:
            raise aiohttp.ClientConnectionResetError("closed before the request")
        protocol.set_response_params(
            timer=_TIMER,
            skip_payload=method == "HEAD",
            read_until_eof=True,
            auto_decompress=True,
            read_timeout=None,  # which aiohttp would set anew for each piece
            read_bufsize=READ_BUFFER,
            max_line_size=LONGEST_HEADER,
            max_field_size=LONGEST_HEADER,
        )
        protocol.transport.write(request)
        message, content = await _head(protocol, first_byte_timeout)
    except BaseException:
        connection.close()
        raise
    return Reply(message, content, connection)


async def _head(protocol: ResponseHandler, seconds: float) -> tuple[RawResponseMessage, StreamReader]:
    """The first answer that is not "go on", which may be said again and again."""
    while True:
        timer = asyncio.get_running_loop().call_later(seconds, _silent, protocol)
        try:
            message, content = await protocol.read()
        finally:
            timer.cancel()
        if message.code >= _FIRST_FINAL or message.code == _SWITCHING:
            return message, content


def _silent(protocol: ResponseHandler) -> None:
    protocol.set_exception(aiohttp.SocketTimeoutError("no answer"))
