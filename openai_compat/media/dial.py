"""One GET from a public web server: its name resolved once, all its addresses checked, and one of those dialled.

The library gets a connector that knows these addresses and no resolver, so nothing asks again; TLS still checks the name.
Nothing of a client's request goes along, no cookie is kept, and no proxy of the environment is used.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import aiohttp
import yarl
from aiohttp.abc import AbstractResolver, ResolveResult
from msgspec import Struct

from openai_compat.media.addresses import is_public
from openai_compat.media.urls import PORTS, Url, target_of
from openai_compat.patterns import star_of

_LOOKUPS = 32  # names that are looked up at the same time
_LINE = 8190  # bytes of a header
_OK = 200
_MOVED = frozenset({301, 302, 303, 307, 308})
_HEADERS = {"User-Agent": "openai-compat", "Accept": "image/*, audio/*", "Accept-Encoding": "identity"}

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class Refused(Exception):
    """``args[0]`` is why, for the log. It names no path and no address."""


class Policy(Struct, frozen=True, kw_only=True):
    """Where may be fetched from. No setting changes it: the tests do, which have nothing but this machine.

    ``resolve`` stands in for the system's resolver, ``tls`` for the usual authorities; failures are told after whole ``grain``s
    of seconds.
    """

    allowed: Callable[[str], bool] = is_public
    ports: frozenset[int] = frozenset(PORTS.values())
    resolve: Resolve | None = None
    tls: ssl.SSLContext | None = None
    grain: float = 1.0


class Dialler:
    """Slow lookups keep threads busy that nothing else needs."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._lookups = ThreadPoolExecutor(_LOOKUPS, "lookup")

    def close(self) -> None:
        self._lookups.shutdown(wait=False, cancel_futures=True)

    async def get(self, url: Url | None, hosts: Sequence[str], take: Callable[[int], None], most: int) -> bytes | Url | None:
        """The file, or where it is instead. Each piece is counted by ``take``, which may raise; there may be ``most`` bytes.

        Raises ``Refused``, and what the library raises.
        """
        plain = self._plain(url, hosts)
        connector = self._connector(await self._checked(plain))
        async with (
            _session(connector) as session,
            session.get(_in_parts(plain), allow_redirects=False) as response,
        ):
            if response.status in _MOVED:
                return _redirected(plain, response.headers.getall("Location", []))
            if response.status != _OK:
                raise Refused("it did not answer with a file")
            return await _read(response, take, most)

    def _plain(self, url: Url | None, hosts: Sequence[str]) -> Url:
        """The URL, if it may be asked at all."""
        if url is None:
            raise Refused("the URL is not taken")
        if url.port not in self.policy.ports:
            raise Refused("its port is not taken")
        if hosts and not any(star_of(pattern, url.host) is not None for pattern in hosts):
            raise Refused("it is not among media.hosts")
        return url

    async def _checked(self, url: Url) -> tuple[str, ...]:
        """Every address of the host: one that is not public spoils the others, since the next answer may have it first."""
        found = tuple(await self._resolve(url.host, url.port))
        if not found or not all(map(self.policy.allowed, found)):
            raise Refused("its address is not public")
        return found

    async def _resolve(self, host: str, port: int) -> Sequence[str]:
        if self.policy.resolve is not None:
            return await self.policy.resolve(host, port)
        return await asyncio.get_running_loop().run_in_executor(self._lookups, _look_up, host, port)

    def _connector(self, addresses: Sequence[str]) -> aiohttp.TCPConnector:
        tls = True if self.policy.tls is None else self.policy.tls
        return aiohttp.TCPConnector(resolver=_Pinned(addresses), use_dns_cache=False, force_close=True, ssl=tls)


class _Pinned(AbstractResolver):
    """Answers with what was checked, and with nothing else."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        """Nothing is held."""


def _session(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    """Of one request, so that nothing of another one is in it."""
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=_HEADERS,
        timeout=aiohttp.ClientTimeout(total=None),  # all of a client's request has one
        trust_env=False,
        auto_decompress=False,
        max_line_size=_LINE,
        max_field_size=_LINE,
    )


async def _read(response: aiohttp.ClientResponse, take: Callable[[int], None], most: int) -> bytes:
    """What really comes is counted, whatever was announced."""
    if (response.content_length or 0) > most:
        raise Refused("it is too large")
    body = bytearray()
    async for piece in response.content.iter_any():
        take(len(piece))
        body += piece
        if len(body) > most:
            raise Refused("it is too large")
    return bytes(body)


def _look_up(host: str, port: int) -> tuple[str, ...]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


def _redirected(url: Url, locations: Sequence[str]) -> Url | None:
    """One that leads away from TLS is not followed."""
    found = target_of(locations[0], url) if len(locations) == 1 else None
    return None if found is None or (url.scheme, found.scheme) == ("https", "http") else found


def _in_parts(url: Url) -> yarl.URL:
    """For the library, which then has nothing to read differently."""
    return yarl.URL.build(scheme=url.scheme, host=url.host, port=url.port, path=url.path, query_string=url.query, encoded=True)
