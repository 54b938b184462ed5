"""Anthropic's shape for whatever goes wrong under `/v1/messages`, whoever answers: keys, limits, routes, the relay. Also under
`/v1/models`, where one of Anthropic's clients asks.

Everything inside makes OpenAI's errors; they are rewritten on their way out. Of a stream only two kinds of pieces are looked
for, which are made elsewhere: the error that ends it, and the pings.
"""

from __future__ import annotations

from collections.abc import Awaitable

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPResponseStartEvent, HTTPScope, Message, Receive, Scope, Send

from openai_compat.http.request_id import HEADER
from openai_compat.http.sse import PING
from schemas.anthropic_answers import AnthropicError, AnthropicErrorDetail, Ping
from schemas.common import ErrorDetail, ErrorResponse

PATH = "/v1/messages"
_MODELS = "/v1/models"
_VERSION = b"anthropic-version"
_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_INVALID = "invalid_request_error"
_REFUSED, _FAILED, _UNAVAILABLE, _OVERLOADED = 400, 500, 503, 529
_EVENT_STREAM = b"text/event-stream"
_FAILURE = b'data: {"error"'
_PASSING = frozenset({"model_loading", "shutting_down", "unavailable", "worker_died"})
"""Codes of what is over soon; of a stream that began they tell it in the place of a status."""
_HIDDEN = "The server had an error while processing your request."
_NOTHING = ErrorDetail(message=_HIDDEN, type="")
_encode = msgspec.json.Encoder().encode
_error = msgspec.json.Decoder(ErrorResponse)


class AnthropicShape:
    """Leaves all other paths alone, and answers to HEAD, which have no body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == ScopeType.HTTP and _is_theirs(scope):
            send = _Reshaped(send)
        return self._app(scope, receive, send)


def is_message(path: str) -> bool:
    """Several slashes count as one, as the router counts them."""
    if "//" in path:
        path = "/" + "/".join(filter(None, path.split("/")))
    return path.startswith(PATH) and path[len(PATH) : len(PATH) + 1] in ("", "/")


def _is_theirs(scope: HTTPScope) -> bool:
    """Whether one of Anthropic's clients asks: for a message, or for models."""
    if scope["method"] == "HEAD":
        return False
    path = scope["path"]
    return is_message(path) or (path.startswith(_MODELS) and any(name == _VERSION for name, _ in scope["headers"]))


class _Reshaped:
    """The way of one answer to its client."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._request_id: str | None = None
        self._refusal: HTTPResponseStartEvent | None = None
        self._body: list[bytes] = []
        self._streams = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._begin(message)
        elif message["type"] != "http.response.body":
            await self._send(message)
        elif self._refusal is not None:
            await self._refuse(message.get("body", b""), self._refusal, more=message.get("more_body", False))
        else:
            await self._send({**message, "body": self._event(message.get("body", b""))} if self._streams else message)

    async def _begin(self, message: HTTPResponseStartEvent) -> None:
        headers = [(name.lower(), value) for name, value in message["headers"]]
        fields = dict(headers)
        self._streams = fields.get(b"content-type", b"").startswith(_EVENT_STREAM)
        if HEADER in fields:
            self._request_id = fields[HEADER].decode("latin-1")
            headers.append((b"request-id", fields[HEADER]))
        message["headers"] = headers
        if message["status"] >= _REFUSED:
            self._refusal = message
        else:
            await self._send(message)

    async def _refuse(self, piece: bytes, start: HTTPResponseStartEvent, *, more: bool) -> None:
        self._body.append(piece)
        if more:
            return
        headers = [pair for pair in start["headers"] if pair[0] != b"content-length"]
        start["status"] = _status(start["status"], dict(headers))
        body = self._error(b"".join(self._body), start["status"])
        start["headers"] = [*headers, (b"content-length", str(len(body)).encode())]
        await self._send(start)
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    def _event(self, piece: bytes) -> bytes:
        if piece == PING:
            return b"event: ping\ndata: " + _encode(Ping()) + b"\n\n"
        event = piece.lstrip(b"\n")
        if not event.startswith(_FAILURE):
            return piece
        gap = piece[: len(piece) - len(event)]
        return gap + b"event: error\ndata: " + self._error(event.removeprefix(b"data: "), _FAILED) + b"\n\n"

    def _error(self, body: bytes, status: int) -> bytes:
        try:
            said = _error.decode(body).error
            message, kind = _naming(said), _type(status, said)
        except (msgspec.DecodeError, UnicodeDecodeError):
            message, kind = _HIDDEN, _type(status, _NOTHING)
        return _encode(AnthropicError(error=AnthropicErrorDetail(type=kind, message=message), request_id=self._request_id))


def _naming(said: ErrorDetail) -> str:
    """The message with the field at fault, for which this shape has no place of its own."""
    return said.message if not said.param or said.param in said.message else f"{said.param}: {said.message}"


def _status(status: int, headers: dict[bytes, bytes]) -> int:
    """What passes by itself is overload: the SDKs have a class of errors for it."""
    passes = headers.get(b"x-should-retry") != b"false"
    return _OVERLOADED if status == _UNAVAILABLE and passes else status


def _type(status: int, said: ErrorDetail) -> str:
    """Of a stream that failed only what was said tells the kind."""
    if status in _TYPES:
        return _TYPES[status]
    if status < _FAILED or said.type == _INVALID:
        return _INVALID
    if status == _FAILED and said.code in _PASSING:
        return _TYPES[_OVERLOADED]
    return said.type if said.type in _TYPES.values() else "api_error"
