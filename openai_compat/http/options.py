"""What a path can be asked: litestar answers OPTIONS with the methods that it knew when the path's first handler came along."""

from __future__ import annotations

from collections.abc import Awaitable

from litestar import Litestar
from litestar.enums import ScopeType
from litestar.routes import HTTPRoute
from litestar.types import ASGIApp, Message, Receive, Scope, Send


class WholeAllow:
    """Puts all methods of a path into ``Allow``, HEAD among them where there is GET.

    Args:
        app: what answers.
        routes: the application whose routes those are.
    """

    def __init__(self, app: ASGIApp, routes: Litestar) -> None:
        self._app = app
        self._allowed = {route.path_format: _methods(route) for route in routes.routes if isinstance(route, HTTPRoute)}

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != ScopeType.HTTP or scope["method"] != "OPTIONS":
            return self._app(scope, receive, send)

        async def whole(message: Message) -> None:
            allowed = self._allowed.get(scope.get("path_template", ""))
            if message["type"] == "http.response.start" and allowed is not None:
                others = [pair for pair in message["headers"] if pair[0].lower() != b"allow"]
                message = {**message, "headers": [*others, (b"allow", allowed)]}
            await send(message)

        return self._app(scope, receive, whole)


def _methods(route: HTTPRoute) -> bytes:
    methods = set(route.methods) | ({"HEAD"} if "GET" in route.methods else set())
    return ", ".join(sorted(methods)).encode()
