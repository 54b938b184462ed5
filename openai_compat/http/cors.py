"""Browsers: which web pages may use the API from another origin. Origins are compared as a whole, never by a pattern."""

from __future__ import annotations

from collections.abc import Awaitable

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

ANY = "*"
_METHODS = b"GET, HEAD, POST, DELETE"
_ALLOWED = frozenset({"accept", "authorization", "content-type", "x-api-key", "x-request-id"})
_ALLOWED_PREFIXES = ("x-stainless-", "openai-", "anthropic-")
_EXPOSED = (
    b"x-request-id, request-id, openai-processing-ms, retry-after, x-should-retry, openai-poll-after-ms, "
    b"x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, "
    b"x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens"
)
_MAX_AGE = b"600"
_Headers = list[tuple[bytes, bytes]]


class CrossOrigin:
    """Answers a browser's question before a request, which carries no key, and marks the answers that a page may read.

    Without ``origins`` a page of another origin can read nothing, and sends nothing that a form could not.
    """

    def __init__(self, app: ASGIApp, *, origins: tuple[str, ...]) -> None:
        self._app = app
        self._origins = frozenset(origin.encode("latin-1") for origin in origins)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != ScopeType.HTTP or not self._origins:
            return self._app(scope, receive, send)
        headers = dict(scope["headers"])
        origin = headers.get(b"origin", b"")
        marks = self._marks(origin)
        if marks and _is_question(scope, headers):
            return _permit(send, marks, headers.get(b"access-control-request-headers", b""))
        return self._app(scope, receive, _marking(send, marks))

    def _marks(self, origin: bytes) -> _Headers:
        """What tells the browser that ``origin`` may; nothing for one that may not."""
        if not origin or not self._origins & {origin, ANY.encode()}:
            return []
        return [(b"access-control-allow-origin", origin)]


def _is_question(scope: HTTPScope, headers: dict[bytes, bytes]) -> bool:
    return scope["method"] == "OPTIONS" and b"access-control-request-method" in headers


async def _permit(send: Send, marks: _Headers, wanted: bytes) -> None:
    names = (name.strip().lower() for name in wanted.decode("latin-1").split(","))
    allowed = [name for name in names if name in _ALLOWED or name.startswith(_ALLOWED_PREFIXES)]
    headers = [
        *marks,
        (b"access-control-allow-methods", _METHODS),
        (b"access-control-allow-headers", ", ".join(allowed).encode("latin-1")),
        (b"access-control-max-age", _MAX_AGE),
        (b"vary", b"origin"),
    ]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _marking(send: Send, marks: _Headers) -> Send:
    """Every answer differs by origin, also one that a page may not read: a cache must know."""

    async def marked(message: Message) -> None:
        if message["type"] == "http.response.start":
            exposed = [*marks, (b"access-control-expose-headers", _EXPOSED)] if marks else []
            message["headers"] = [*message.get("headers", ()), *exposed, (b"vary", b"origin")]
        await send(message)

    return marked
