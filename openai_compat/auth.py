"""Who may use the server: keys, and without keys nobody but this machine."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import re
from collections.abc import Awaitable
from functools import lru_cache

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from openai_compat.errors import APIError, AuthenticationFailed, PermissionRefused
from openai_compat.http.errors import send_error

PUBLIC_PATHS = frozenset({"/health/live", "/health/ready"})
PUBLIC_FILES = re.compile(r"/v1/media/[A-Za-z0-9_-]+\.[a-z]+")
"""Their names cannot be guessed, and pages that show them send no key."""
_KEY = re.compile(r"sha256:[0-9a-f]{64}")
_PORT = re.compile(r":\d{0,5}")
_logger = logging.getLogger("openai_compat.auth")


def hash_key(key: str) -> str:
    """The form in which a key stands in the configuration."""
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()


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


class Authentication:
    """Refuses whoever has no key, on every path that is not public; decided on ``scope["path"]``, never on a header.

    Without keys only this machine is served, and the ``Host`` header must name it: a web page that points its own name at
    127.0.0.1 must not read the answers. Leaves ``scope["state"]["key_id"]`` (empty without keys), which tells one key's
    requests from another's and reveals neither.
    """

    def __init__(self, app: ASGIApp, *, keys: tuple[str, ...], public: frozenset[str] = PUBLIC_PATHS) -> None:
        self._app = app
        self._keys = tuple(bytes.fromhex(key.removeprefix("sha256:")) for key in keys)
        self._public = public

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == ScopeType.HTTP and (refusal := self._refusal(scope)):
            return send_error(send, refusal, _challenge(refusal))
        return self._app(scope, receive, send)

    def _refusal(self, scope: HTTPScope) -> APIError | None:
        state = scope.setdefault("state", {})
        state["key_id"] = ""
        if not self._keys:
            return _foreign_host(scope)
        if scope["path"] in self._public or PUBLIC_FILES.fullmatch(scope["path"]):
            return None
        key = _presented_key(scope)
        if key is None:
            return AuthenticationFailed(
                "You didn't provide an API key. Send it in an Authorization header, as 'Bearer YOUR_KEY', or in x-api-key."
            )
        digest = hashlib.sha256(key).digest()
        if not self._knows(digest):
            return AuthenticationFailed("Incorrect API key provided.")
        state["key_id"] = digest.hex()[:16]
        return None

    def _knows(self, digest: bytes) -> bool:
        """Compare with all of them, whichever matches, so that the time taken tells nothing."""
        return sum(hmac.compare_digest(digest, known) for known in self._keys) > 0


def _presented_key(scope: HTTPScope) -> bytes | None:
    headers = dict(scope["headers"])
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer" and token.strip():
        return token.strip()
    return headers.get(b"x-api-key") or None


def _foreign_host(scope: HTTPScope) -> PermissionRefused | None:
    hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
    if hosts and all(_names_this_machine(host) for host in hosts):
        return None
    _logger.warning("refused a request whose Host header is not this machine's")
    return PermissionRefused(
        "This server has no API keys and answers only requests made to localhost, 127.0.0.1 or [::1]. "
        "To serve other names, configure auth.keys.",
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
