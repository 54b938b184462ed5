"""The connections to one upstream."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import aiohttp
from aiohttp.connector import Connection
from multidict import CIMultiDict
from yarl import URL

from openai_compat.config import ConfigError, Upstream
from openai_compat.gateway.replica import Headers
from openai_compat.gateway.spool import Body
from openai_compat.gateway.upstreams.plan import Response
from openai_compat.gateway.upstreams.wire import LONGEST_HEADER, READ_BUFFER, Handler, Reply, exchange, packed

_KEEP_ALIVE = 60.0  # seconds; whoever closes earlier is noticed
_ONE_WRITE = 1 << 18  # bytes; larger bodies are written in pieces of this size, so that others have their turn between
# A connection that was closed while it lay idle shows it within a round trip. What breaks later has begun.
_STALE_WITHIN = 2.0
_BROKEN = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ClientConnectionResetError)


class Stale(aiohttp.ClientError):
    """A connection that had served before was closed when it was used again, before any byte of an answer."""


class Session:
    """Sends to one upstream: its certificate checked, through no proxy but the configured one, following no redirect.

    Args:
        origin: its address without a path.
        tls: what its certificate is checked with (see ``tls_context``); None where its address is not encrypted.
    """

    def __init__(self, settings: Upstream, origin: URL, tls: ssl.SSLContext | None) -> None:
        self._settings = settings
        self._origin = origin
        self._tls = tls or True  # in aiohttp's words: checked
        self._pooled: _Connections | None = None
        self._fresh: _Connections | None = None
        self.closed = False

    async def send(self, method: str, url: URL, headers: Headers, body: bytes | Body) -> Response:
        """Returns when the head of the answer is there. A second try is made where the first met a dead connection.

        Raises what aiohttp raises, and ``InvalidRequest`` for headers that cannot be sent.
        """
        if self._pooled is None:
            pool = _Connector(ssl=self._tls, limit=0, keepalive_timeout=_KEEP_ALIVE)
            self._pooled = _Connections(self._settings, self._origin, pool)
        try:
            return await self._pooled.send(method, url, headers, body)
        except Stale:
            if self._fresh is None:
                single = _Connector(ssl=self._tls, limit=0, force_close=True)
                self._fresh = _Connections(self._settings, self._origin, single)
            return await self._fresh.send(method, url, headers, body)

    async def close(self) -> None:
        self.closed = True
        for connections in (self._pooled, self._fresh):
            if connections is not None:
                await connections.close()


class _Connector(aiohttp.TCPConnector):
    """Its connections know whether they served, and those with something on them that nobody asked for are not used again."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._factory = partial(Handler, loop=asyncio.get_running_loop())  # type: ignore[assignment]

    async def connect(self, *what: Any, **more: Any) -> Connection:
        while True:
            connection = await super().connect(*what, **more)
            protocol = connection.protocol
            if not isinstance(protocol, Handler) or not protocol.served or protocol.is_quiet():
                return connection
            connection.close()


class _Connections:
    """Those of one connector. Small requests are written at once; what is large or goes by a proxy, in aiohttp's own way."""

    def __init__(self, settings: Upstream, origin: URL, connector: aiohttp.TCPConnector) -> None:
        self._settings = settings
        self._connector = connector
        self._timeout = aiohttp.ClientTimeout(
            total=None, connect=settings.connect_timeout, sock_read=settings.first_byte_timeout
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            response_class=_FromPool,
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept-Encoding", "Accept", "Content-Type"),
            read_bufsize=READ_BUFFER,
            max_line_size=LONGEST_HEADER,
            max_field_size=LONGEST_HEADER,
            trust_env=False,
            proxy=settings.proxy or None,
        )
        # What a connector asks whom to connect to; of the request itself it needs nothing.
        self._to = aiohttp.ClientRequest("POST", origin, loop=asyncio.get_running_loop(), session=self._session)

    async def send(self, method: str, url: URL, headers: Headers, body: bytes | Body) -> Response:
        if isinstance(body, bytes) and len(body) <= _ONE_WRITE and not self._settings.proxy:
            return await self._write(method, packed(method, url, headers, body))
        return await self._stream(method, url, headers, body)

    async def close(self) -> None:
        await self._session.close()

    async def _write(self, method: str, request: bytes) -> Reply:
        connection = await self._connect()
        timeout = self._settings.first_byte_timeout
        if _serves_first(connection):
            return await exchange(connection, method, request, timeout)
        began = time.monotonic()
        try:
            return await exchange(connection, method, request, timeout)
        except _BROKEN as error:
            raise _stale(error, began) from error

    async def _connect(self) -> Connection:
        try:
            return await self._connector.connect(self._to, [], self._timeout)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError from error

    async def _stream(self, method: str, url: URL, headers: Headers, body: bytes | Body) -> aiohttp.ClientResponse:
        """Its length is announced; else aiohttp would send it in chunks."""
        fields = CIMultiDict([(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers])
        size = len(body) if isinstance(body, bytes) else body.size
        data = None
        if size:
            fields["content-length"] = str(size)
            data = _pieces(body) if isinstance(body, bytes) else body.pieces()
        response = await self._session.request(method, url, headers=fields, data=data, allow_redirects=False)
        if response.connection is not None and response.connection.protocol is not None:
            response.connection.protocol.read_timeout = None  # whoever reads the body has a cheaper one
            response.connection.protocol.start_timeout()  # so that the one for the head is called off
        return response


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    view = memoryview(body)
    for start in range(0, len(body), _ONE_WRITE):
        yield bytes(view[start : start + _ONE_WRITE])


def tls_context(ca_file: str) -> ssl.SSLContext:
    """Trusts the certificates of ``ca_file``, or, where that is empty, those of the system. Raises ``ConfigError``."""
    try:
        context = ssl.create_default_context(cafile=ca_file or _bundle())
    except OSError as error:  # OpenSSL's are of this kind too
        raise ConfigError(f"The certificates of ca_file '{ca_file}' cannot be read: {error.strerror}") from None
    context.set_alpn_protocols(["http/1.1"])
    return context


def _bundle() -> str | None:
    """Certificates for a system that has none where Python looks for them."""
    paths = ssl.get_default_verify_paths()
    if paths.cafile or paths.capath:
        return None
    import certifi

    return certifi.where()


class _FromPool(aiohttp.ClientResponse):
    """Responses that know which connections have served before."""

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        if _serves_first(connection):
            return await super().start(connection)
        began = time.monotonic()
        try:
            return await super().start(connection)
        except _BROKEN as error:
            raise _stale(error, began) from error


def _serves_first(connection: Connection) -> bool:
    """Whether this is the first time; from now on it is not."""
    protocol = connection.protocol
    if not isinstance(protocol, Handler) or protocol.served:
        return False
    protocol.served = True
    return True


def _stale(error: Exception, began: float) -> Exception:
    """What it means when a request breaks on a connection that has served before: ``Stale``, or what it is."""
    return error if time.monotonic() - began > _STALE_WITHIN or _has_begun(error) else Stale()


def _has_begun(error: Exception) -> bool:
    """Whether a part of an answer's head was there."""
    return isinstance(error, aiohttp.ServerDisconnectedError) and not isinstance(error.message, str)
