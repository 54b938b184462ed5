"""ASGI middleware: turns away what would wait too long for the model, before anything is read or decoded of it.

Each request that the gateway sent is entered in the ledger, and struck out when its answer is over.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import msgspec

from openai_compat.errors import APIError
from openai_compat.http.errors import send_error
from openai_compat.protocol import PREFIX, SHUT, RelayFacts
from openai_compat.worker.admission import Full
from openai_compat.worker.status import Ledger

App = Callable[[Any, Any, Any], Awaitable[None]]  # the servers and frameworks around each have their own types for ASGI
FACTS = (PREFIX + "facts").encode()


class Track:
    """Wraps the whole worker app. Requests without facts (health) are let through unseen.

    ``admit`` gets the seconds that a request may last, and raises the ``APIError`` that it is answered with.
    """

    def __init__(self, app: App, ledger: Ledger, admit: Callable[[float], None]) -> None:
        self._app = app
        self._ledger = ledger
        self._admit = admit

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        facts = _facts(scope["headers"]) if scope["type"] == "http" else None
        if facts is None:
            await self._app(scope, receive, send)
            return
        self._ledger.entered(facts.request_id)
        try:
            self._admit(facts.deadline)
        except APIError as error:
            await _refuse(receive, send, error)
        else:
            await self._app(scope, receive, send)
        finally:
            self._ledger.left(facts.request_id)


async def _refuse(receive: Any, send: Any, error: APIError) -> None:
    """After the body: the gateway takes a connection that closes while it writes for that of a dying worker."""
    while (message := await receive())["type"] == "http.request" and message.get("more_body"):
        pass
    await send_error(send, error, {SHUT: f"{max(0.0, error.shut):.3f}"} if isinstance(error, Full) else None)


def _facts(headers: Iterable[tuple[bytes, bytes]]) -> RelayFacts | None:
    for name, value in headers:
        if name == FACTS:
            try:
                return RelayFacts.from_headers({FACTS.decode(): value.decode("latin-1")})
            except (msgspec.DecodeError, UnicodeDecodeError):
                return None
    return None
