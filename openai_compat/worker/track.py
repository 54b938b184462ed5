"""ASGI middleware: enters each request that the gateway sent in the ledger, and strikes it out when its answer is over."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import msgspec

from openai_compat.protocol import PREFIX, RelayFacts
from openai_compat.worker.status import Ledger

App = Callable[[Any, Any, Any], Awaitable[None]]  # the servers and frameworks around each have their own types for ASGI
FACTS = (PREFIX + "facts").encode()


class Track:
    """Wraps the whole worker app. Requests without facts (health) are let through unseen."""

    def __init__(self, app: App, ledger: Ledger) -> None:
        self._app = app
        self._ledger = ledger

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request_id = _request_id(scope["headers"]) if scope["type"] == "http" else None
        if request_id is None:
            await self._app(scope, receive, send)
            return
        self._ledger.entered(request_id)
        try:
            await self._app(scope, receive, send)
        finally:
            self._ledger.left(request_id)


def _request_id(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    for name, value in headers:
        if name == FACTS:
            try:
                return RelayFacts.from_headers({FACTS.decode(): value.decode("latin-1")}).request_id
            except (msgspec.DecodeError, UnicodeDecodeError):
                return None
    return None
