"""Who may use the server, and for what: keys, and without keys nobody but this machine.

Decided on ``scope["path"]`` and the keys that a request carries, never on another header.
"""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Awaitable, Iterable
from functools import lru_cache

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from openai_compat.errors import APIError, AuthenticationFailed, PermissionRefused
from openai_compat.grants import ANYBODY, CLIENTS, NOBODY, Grant, Grants
from openai_compat.grants import Scope as Permission
from openai_compat.http.errors import send_error
from openai_compat.keys.secret import digest_of

PUBLIC_PATHS = frozenset({"/health/live", "/health/ready"})
PUBLIC_FILES = re.compile(r"/v1/media/[A-Za-z0-9_-]+\.[a-z]+")
"""Their names cannot be guessed, and pages that show them send no key."""
PERMISSIONS: dict[tuple[str, str], Permission] = {
    ("v1", "chat"): "chat",
    ("v1", "completions"): "chat",
    ("v1", "messages"): "chat",
    ("v1", "moderations"): "chat",
    ("v1", "decisions"): "chat",
    ("tokenize", ""): "chat",
    ("detokenize", ""): "chat",
    ("v1", "tokenize"): "chat",
    ("v1", "detokenize"): "chat",
    ("v1", "responses"): "chat",
    ("v1", "conversations"): "chat",
    ("v1", "embeddings"): "embeddings",
    ("v1", "rerank"): "embeddings",
    ("v2", "rerank"): "embeddings",
    ("v1", "images"): "images",
    ("v1", "audio"): "audio",
    ("v1", "videos"): "videos",
    ("v1", "vision"): "vision",
    ("v1", "models"): "models",
    ("v1", "usage"): "usage",
    ("models", ""): "models",
    ("models", "load"): "load",
    ("models", "unload"): "load",
    ("models", "sse"): "events",
    ("metrics", ""): "metrics",
}
"""What a key needs for the paths that begin so. All other paths are for keys with every scope of ``CLIENTS``."""
_READING = frozenset({"GET", "HEAD"})
_LONGEST_KEY = 4096  # bytes; a longer one is wrong before anything is computed of it
_WEBSOCKET_REFUSED = 1008
_KEY = re.compile(r"sha256:[0-9a-f]{64}")
_PASSED_ON = frozenset({b"x-forwarded-for", b"x-real-ip"})
_HOPS = 16
_PORT = re.compile(r":\d{0,5}")
_SLASHES = re.compile("/{2,}")
_logger = logging.getLogger("openai_compat.auth")


def hash_key(key: str) -> str:
    """The form in which a key stands in the configuration."""
    return "sha256:" + digest_of(key.encode()).hex()


def is_key_hash(text: str) -> bool:
    return _KEY.fullmatch(text) is not None


def is_loopback(host: str) -> bool:
    """Whether ``host`` (a name or an address, without a port) means this machine and nothing else."""
    name = host.lower().removeprefix("[").removesuffix("]")
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def permission_of(path: str) -> Permission | None:
    """The scope that a path needs; several slashes count as one, as the router counts them. None where it has none."""
    if "//" in path:
        path = _SLASHES.sub("/", path)
    _, first, second, *_ = (*path.split("/", 3), "", "")
    return PERMISSIONS.get((first, second))


class _Gate:
    """Lets a request pass with its ``grant``, which it leaves in ``scope["state"]``, or refuses it."""

    def __init__(self, app: ASGIApp, grants: Grants) -> None:
        self._app = app
        self._grants = grants

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == ScopeType.HTTP:
            try:
                grant = self._admitted(scope)
            except APIError as refusal:
                return send_error(send, refusal, _challenge(refusal))
            state = scope.setdefault("state", {})
            state["grant"] = grant
            state["key_id"] = grant.key_id
        elif scope["type"] == ScopeType.WEBSOCKET:
            return send({"type": "websocket.close", "code": _WEBSOCKET_REFUSED, "reason": ""})
        return self._app(scope, receive, send)

    def _admitted(self, scope: HTTPScope) -> Grant:
        """Raises ``AuthenticationFailed`` and ``PermissionRefused``."""
        raise NotImplementedError

    def _holder(self, scope: HTTPScope) -> Grant:
        """Whose key the request carries. Raises ``AuthenticationFailed``."""
        key = _presented_key(scope["headers"])
        if key is None:
            raise AuthenticationFailed(
                "You didn't provide an API key. Send it in an Authorization header, as 'Bearer YOUR_KEY', or in x-api-key."
            )
        grant = self._grants.find(digest_of(key)) if len(key) <= _LONGEST_KEY else None
        if grant is None:
            raise AuthenticationFailed("Incorrect API key provided.")
        return grant


class Authentication(_Gate):
    """For clients. Refuses whoever has no key, or one that is not for the path, on every path that is not public.

    Without keys only this machine is served, and the ``Host`` header must name it: a web page that points its own name at
    127.0.0.1 must not read the answers. What a tunnel or a proxy passes on is another machine's, unless ``behind_proxies`` says
    that it is known.
    """

    def __init__(self, app: ASGIApp, grants: Grants, *, behind_proxies: bool = False) -> None:
        super().__init__(app, grants)
        self._behind_proxies = behind_proxies

    def _admitted(self, scope: HTTPScope) -> Grant:
        if not self._grants.exist:
            _check_host(scope)
            if not self._behind_proxies:
                _check_passed_on(scope)
            return ANYBODY
        path = scope["path"]
        if (path in PUBLIC_PATHS or PUBLIC_FILES.fullmatch(path)) and scope["method"] in _READING:
            return NOBODY
        grant = self._holder(scope)
        permission = permission_of(path)
        if permission is None:
            missing = CLIENTS - grant.scopes
            if missing:
                raise _refused(missing)
        elif permission not in grant.scopes:
            raise _refused((permission,))
        return grant


class OperatorAuthentication(_Gate):
    """For operators who come over TCP: always a key, with the scope ``admin``, on every path."""

    def _admitted(self, scope: HTTPScope) -> Grant:
        grant = self._holder(scope)
        if "admin" not in grant.scopes:
            raise _refused(("admin",))
        return grant


def _refused(missing: Iterable[str]) -> PermissionRefused:
    names = ", ".join(sorted(missing))
    return PermissionRefused(
        f"You have insufficient permissions for this operation. Missing scopes: {names}.", code="missing_scope"
    )


def _presented_key(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The one key that a request carries, however often. Raises ``AuthenticationFailed`` for two.

    Another program on the way may have looked at either of them.
    """
    found = None
    for name, value in headers:
        if name == b"authorization":
            scheme, _, key = value.partition(b" ")
            key = key.strip() if scheme.lower() == b"bearer" else b""
        elif name == b"x-api-key":
            key = value.strip()
        else:
            continue
        if key and found is not None and key != found:
            raise AuthenticationFailed("The request has two different API keys. Send one.")
        found = key or found
    return found


def _check_host(scope: HTTPScope) -> None:
    """Raises ``PermissionRefused``."""
    hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
    if hosts and all(_names_this_machine(host) for host in hosts):
        return
    _logger.warning("refused a request whose Host header is not this machine's")
    raise PermissionRefused(
        "This server has no API keys and answers only requests made to localhost, 127.0.0.1 or [::1]. "
        "To serve other names, make an API key.",
        code="host_not_allowed",
    )


def _check_passed_on(scope: HTTPScope) -> None:
    """A proxy may write this machine's name into ``Host``; most say whose request it is. Raises ``PermissionRefused``."""
    for name, value in scope["headers"]:
        if name in _PASSED_ON and not all(is_loopback(hop.strip()) for hop in value.decode("latin-1").split(",", _HOPS)):
            _logger.warning("refused a request that a proxy has passed on for another machine")
            raise PermissionRefused(
                "This server has no API keys and answers only this machine, and a proxy has passed on another's request. "
                "To serve others, make an API key; if the proxy decides who may ask, name it in 'server.trusted_proxies'.",
                code="host_not_allowed",
            )


@lru_cache(maxsize=256)
def _names_this_machine(host: str) -> bool:
    name, bracket, rest = host.partition("]")
    if not bracket:
        name, colon, port = host.partition(":")
        rest = colon + port
    return is_loopback(name + bracket) and (not rest or _PORT.fullmatch(rest) is not None)


def _challenge(error: APIError) -> dict[str, str]:
    return {"www-authenticate": "Bearer"} if isinstance(error, AuthenticationFailed) else {}
