"""Who asks, where a proxy stands in front: ``X-Forwarded-For``, believed of the proxies that the configuration names.

Only ``scope["client"]`` is changed by it, which the log shows. What a proxy says of the scheme, the host and the path is never
read, nor is ``Forwarded`` (RFC 7239): no decision and no link may depend on what a client can write.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Iterator
from functools import lru_cache

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_HEADER = b"x-forwarded-for"
_HOPS = 16
"""So many of the nearest are looked at; a list may be as long as headers can be."""
_LONGEST = 64  # characters of one hop, with brackets and a port


class TrustedProxies:
    """Puts the nearest address that is no proxy of ours in the place of the proxy's own."""

    def __init__(self, app: ASGIApp, *, proxies: tuple[str, ...]) -> None:
        self._app = app
        networks = tuple(map(network, proxies))
        self._trusts = lru_cache(maxsize=1024)(lambda address: any(address in each for each in networks))

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == ScopeType.HTTP and (peer := scope.get("client")):
            scope["client"] = self._client(scope, peer)
        return self._app(scope, receive, send)

    def _client(self, scope: HTTPScope, peer: tuple[str, int]) -> tuple[str, int]:
        nearest = first = _address(peer[0])
        if nearest is None or not self._trusts(nearest):
            return peer
        for hop in _hops(scope):
            told = _address(hop)
            if told is None:
                break
            nearest = told
            if not self._trusts(told):
                break
        return peer if nearest is first else (str(nearest), 0)


def network(text: str) -> Network:
    """An address or a network. Raises ``ValueError`` for anything else, and for one that is everybody."""
    found = ipaddress.ip_network(text)
    if not found.prefixlen:
        raise ValueError("it holds every address")
    return found


def _hops(scope: HTTPScope) -> Iterator[str]:
    """From the nearest on."""
    values = [value for name, value in scope["headers"] if name == _HEADER]
    left = _HOPS
    for value in reversed(values):
        for hop in reversed(value.rsplit(b",", left)[-left:]):
            yield hop.decode("latin-1").strip()
            left -= 1
        if not left:
            return


def _address(text: str) -> Address | None:
    """``192.0.2.1``, ``192.0.2.1:8000``, ``2001:db8::1`` or ``[2001:db8::1]:8000``; None for anything else."""
    if len(text) > _LONGEST or "%" in text:
        return None
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, ipaddress.IPv6Address) else found
