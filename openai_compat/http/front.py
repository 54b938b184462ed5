"""The relayed paths, found in one table ahead of the framework's router: they need nothing of what it does for a request."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Iterator

from litestar import Litestar
from litestar.enums import ScopeType
from litestar.routes import HTTPRoute
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from openai_compat.errors import APIError
from openai_compat.http.endpoint import Endpoint
from openai_compat.http.errors import send_error

_SLASHES = re.compile("/+")
_logger = logging.getLogger("openai_compat.http")

Serve = Callable[[HTTPScope, Receive, Send, Endpoint], Awaitable[None]]


class Front:
    """Hands each POST to a route of ``app`` that declares an ``Endpoint`` to ``serve``, and everything else to ``others``,
    which is ``app`` with whatever stands in front of it.

    ``serve`` may raise until it has sent something: then the error is answered.
    """

    def __init__(self, app: Litestar, serve: Serve, others: ASGIApp | None = None) -> None:
        self._others = others or app
        self._serve = serve
        self._endpoints = dict(endpoints_of(app))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or scope["method"] != "POST" or (found := self._find(scope)) is None:
            await self._others(scope, receive, send)
            return
        try:
            await self._serve(scope, receive, send, found)
        except Exception as error:  # the boundary: whatever it was, the client gets an answer
            await _answer(scope, send, error)

    def _find(self, scope: HTTPScope) -> Endpoint | None:
        """As the router finds it: several slashes count as one, and one at the end as none."""
        path = scope["path"]
        endpoint = self._endpoints.get(path)
        if endpoint is None:
            path = _SLASHES.sub("/", path).rstrip("/")
            endpoint = self._endpoints.get(path)
        if endpoint is not None:
            scope["path_template"] = path
        return endpoint


def endpoints_of(app: Litestar) -> Iterator[tuple[str, Endpoint]]:
    """The relayed routes, by their paths."""
    for route in app.routes:
        for handler in route.route_handlers if isinstance(route, HTTPRoute) else ():
            endpoint = handler.opt.get("endpoint")
            if isinstance(endpoint, Endpoint):
                yield route.path, endpoint


async def _answer(scope: HTTPScope, send: Send, error: Exception) -> None:
    if not isinstance(error, APIError):
        _logger.error("POST %r failed [%s]", scope["path"], scope["state"].get("request_id", "-"), exc_info=error)
    await send_error(send, error)
