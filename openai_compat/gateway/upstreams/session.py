"""The connections to one upstream."""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator, Callable
from weakref import WeakSet

import aiohttp
from aiohttp.connector import Connection
from multidict import CIMultiDict
from yarl import URL

from openai_compat.config import ConfigError, Upstream

Data = bytes | AsyncIterator[bytes] | None
_KEEP_ALIVE = 60.0  # seconds; whoever closes earlier is noticed
_READ_BUFFER = 1 << 16
_LONGEST_HEADER = 1 << 15
# A connection that was closed while it lay idle shows it within a round trip. What breaks later has begun.
_STALE_WITHIN = 2.0


class Stale(aiohttp.ClientError):
    """A connection that had served before was closed when it was used again, before any byte of an answer."""


class Session:
    """Sends to one upstream: its certificate checked, through no proxy but the configured one, following no redirect.

    Args:
        tls: what its certificate is checked with (see ``tls_context``); None where its address is not encrypted.
    """

    def __init__(self, settings: Upstream, tls: ssl.SSLContext | None) -> None:
        self._settings = settings
        self._tls = tls or True  # in aiohttp's words: checked
        self._pooled: aiohttp.ClientSession | None = None
        self._fresh: aiohttp.ClientSession | None = None
        self.closed = False

    async def send(self, method: str, url: URL, headers: CIMultiDict[str], data: Callable[[], Data]) -> aiohttp.ClientResponse:
        """Returns when the head of the answer is there. ``data`` is called for each try, of which a second one is made where
        the first met a dead connection. Raises what aiohttp raises.
        """
        if self._pooled is None:
            self._pooled = self._open(force_close=False)
        try:
            return await self._pooled.request(method, url, headers=headers, data=data(), allow_redirects=False)
        except Stale:
            if self._fresh is None:
                self._fresh = self._open(force_close=True)
            return await self._fresh.request(method, url, headers=headers, data=data(), allow_redirects=False)

    async def close(self) -> None:
        self.closed = True
        for session in (self._pooled, self._fresh):
            if session is not None:
                await session.close()

    def _open(self, *, force_close: bool) -> aiohttp.ClientSession:
        settings = self._settings
        if force_close:
            connector = aiohttp.TCPConnector(ssl=self._tls, limit=0, force_close=True)
        else:
            connector = aiohttp.TCPConnector(ssl=self._tls, limit=0, keepalive_timeout=_KEEP_ALIVE)
        return aiohttp.ClientSession(
            connector=connector,
            response_class=_response_class(),
            timeout=aiohttp.ClientTimeout(total=None, connect=settings.connect_timeout, sock_read=settings.first_byte_timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept-Encoding", "Accept", "Content-Type"),
            read_bufsize=_READ_BUFFER,
            max_line_size=_LONGEST_HEADER,
            max_field_size=_LONGEST_HEADER,
            trust_env=False,
            proxy=settings.proxy or None,
        )


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


def _response_class() -> type[aiohttp.ClientResponse]:
    """Responses that know which connections of their session have served before."""
    served: WeakSet[object] = WeakSet()

    class Response(aiohttp.ClientResponse):
        async def start(self, connection: Connection) -> aiohttp.ClientResponse:
            protocol = connection.protocol
            if protocol not in served:
                served.add(protocol)
                return await super().start(connection)
            began = time.monotonic()
            try:
                return await super().start(connection)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ClientConnectionResetError) as error:
                if time.monotonic() - began > _STALE_WITHIN or _has_begun(error):
                    raise
                raise Stale from error

    return Response


def _has_begun(error: Exception) -> bool:
    """Whether a part of an answer's head was there."""
    return isinstance(error, aiohttp.ServerDisconnectedError) and not isinstance(error.message, str)
