"""How large a request's body may be, on every route, whatever the route then does with it."""

from __future__ import annotations

from collections.abc import Awaitable

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPReceiveMessage, HTTPScope, Receive, Scope, Send

from openai_compat.errors import APIError, InvalidRequest, RequestTooLarge
from openai_compat.http.errors import send_error
from openai_compat.sizes import format_size


class BodyLimit:
    """Refuses a body by its declared length before reading it, and an undeclared one as soon as it passes ``max_body`` bytes.

    The second is raised from ``receive``, inside the application, whose error handlers answer it.
    """

    def __init__(self, app: ASGIApp, *, max_body: int) -> None:
        self._app = app
        self._max_body = max_body

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != ScopeType.HTTP:
            return self._app(scope, receive, send)
        if refusal := self._declared_too_large(scope):
            return send_error(send, refusal)
        return self._app(scope, self._counted(receive), send)

    def _declared_too_large(self, scope: HTTPScope) -> APIError | None:
        for name, value in scope["headers"]:
            if name == b"content-length":
                if not value.isdigit():
                    return InvalidRequest("The Content-Length header is not a number.")
                if len(value) > 18 or int(value) > self._max_body:
                    return self._too_large()
        return None

    def _counted(self, receive: Receive) -> Receive:
        read = 0

        async def counted() -> HTTPReceiveMessage:
            nonlocal read
            message = await receive()
            if message["type"] == "http.request":
                read += len(message.get("body", b""))
                if read > self._max_body:
                    raise self._too_large()
            return message  # type: ignore[return-value]

        return counted

    def _too_large(self) -> RequestTooLarge:
        return RequestTooLarge(f"The request body is larger than this server takes ({format_size(self._max_body)}).")
