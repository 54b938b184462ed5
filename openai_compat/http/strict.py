"""uvicorn's HTTP protocol, reading what could be read in two ways in none, and no more than its limits."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar, NoReturn

from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from openai_compat.errors import APIError, HeadersTooLarge, InvalidRequest
from openai_compat.http.bounds import Limits
from openai_compat.http.request_head import check_head, is_chunked, is_host

_NOTED = frozenset({b"expect", b"host", b"transfer-encoding"})
# Names as clients write them, each once for all connections.
_NAMES = (
    b"Accept", b"Accept-Encoding", b"Accept-Language", b"Authorization", b"Connection", b"Content-Length", b"Content-Type",
    b"Host", b"Origin", b"Referer", b"Transfer-Encoding", b"User-Agent", b"X-Forwarded-For", b"X-Forwarded-Proto",
    b"X-Request-Id", b"X-Stainless-Arch", b"X-Stainless-Async", b"X-Stainless-Lang", b"X-Stainless-OS",
    b"X-Stainless-Package-Version", b"X-Stainless-Raw-Response", b"X-Stainless-Read-Timeout", b"X-Stainless-Retry-Count",
    b"X-Stainless-Runtime", b"X-Stainless-Runtime-Version",
)  # fmt: skip
_COMMON = {said: lower for name in _NAMES for lower in (name.lower(),) for said in (name, lower)}


class StrictProtocol(HttpToolsProtocol):
    """The parser's callbacks. What they raise is left in ``_refusal``."""

    __slots__ = ("_body_bytes", "_chunked", "_header_bytes", "_host", "_refusal")
    limits: ClassVar[Limits] = Limits()

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._header_bytes = 0
        self._body_bytes = 0
        self._host: bytes | None = None
        self._chunked = False
        self._refusal: APIError | None = None

    def on_message_begin(self) -> None:
        self._header_bytes = 0
        self._host = None
        self._chunked = False
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._header_bytes += len(url)
        if self._header_bytes > self.limits.header_bytes:
            self._object(self._headers_too_large())
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """All that uvicorn's does is here, too: there are so many headers that a call for each tells."""
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > self.limits.header_bytes or len(self.headers) >= self.limits.header_count:
            self._object(self._headers_too_large())
        name = _COMMON.get(name) or name.lower()
        if name in _NOTED:
            self._note(name, value)
        self.headers.append((name, value))

    def _note(self, name: bytes, value: bytes) -> None:
        if name == b"host":
            if self._host is not None or not is_host(value):
                self._object(InvalidRequest("The request has no valid Host header, or several."))
            self._host = value
        elif name == b"expect":
            self.expect_100_continue = value.lower() == b"100-continue"
        elif is_chunked(value):
            self._chunked = True
        else:
            self._object(InvalidRequest("The request has a transfer encoding that this server does not know."))

    def _check_head(self) -> None:
        """Once the headers are there, and before anybody is told of the request."""
        try:
            check_head(self.parser.get_http_version(), self.url, self._host, chunked=self._chunked)
        except InvalidRequest as refusal:
            self._object(refusal)
        if len(self.pipeline) >= self.limits.pipelined:
            self._object(InvalidRequest("The connection has too many requests that wait."))
        self._body_bytes = 0

    def on_body(self, body: bytes) -> None:
        """uvicorn's, counting."""
        cycle = self.cycle
        self._body_bytes += len(body)
        if cycle.response_complete:
            return
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def _object(self, refusal: APIError) -> NoReturn:
        self._refusal = refusal
        raise refusal

    def _headers_too_large(self) -> HeadersTooLarge:
        return HeadersTooLarge(
            f"The request's headers are more than this server takes "
            f"({self.limits.header_count} headers, {self.limits.header_bytes} bytes)."
        )
