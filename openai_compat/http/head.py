"""HEAD on every path that answers GET, as HTTP asks of a server; load balancers and ``curl -I`` use it."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, cast

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send


class HeadAsGet:
    """Lets the application answer a HEAD as a GET, and keeps the body back."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != ScopeType.HTTP or scope["method"] != "HEAD":
            return self._app(scope, receive, send)
        return self._answer(scope, receive, send)

    async def _answer(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        async def head_only(message: Message) -> None:
            """The answer ends with its headers; an application that would send for ever sees its client leave."""
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        # The server below must go on seeing HEAD, or it would expect the body.
        asked: dict[str, Any] = {**scope, "method": "GET"}
        await self._app(cast("Scope", asked), receive, head_only)
        if "path_template" in asked:
            scope["path_template"] = asked["path_template"]
