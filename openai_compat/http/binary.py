"""An answer of plain bytes that are still being made while they are sent.

Nothing goes out before the first of them is there, so that an early failure has its own status. A later one can only be shown
by breaking the connection off: a file that ends early and looks whole would be a lie.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from litestar import Request, Response
from litestar.types import ASGIApp, Receive, Scope, Send

from openai_compat.errors import APIError
from openai_compat.http.disconnect import gone

logger = logging.getLogger(__name__)
HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


class ByteStream(Response[None]):
    """``chunks`` as a litestar response. When the client leaves, the generator is cancelled or closed where it stands."""

    def __init__(
        self, chunks: AsyncGenerator[bytes, None], media_type: str, headers: Mapping[str, str] = HEADERS, status: int = 200
    ) -> None:
        super().__init__(content=None, media_type=media_type, headers=dict(headers), status_code=status)
        self.chunks = chunks

    def to_asgi_response(self, app: Any, request: Request[Any, Any, Any], **options: Any) -> ASGIApp:  # type: ignore[override]
        headers = {**(options.get("headers") or {}), **self.headers, "content-type": str(self.media_type)}
        encoded = [(name.lower().encode("latin-1"), str(value).encode("latin-1")) for name, value in headers.items()]
        return _Delivery(self.chunks, encoded, self.status_code or 200)


class _Delivery:
    """A pump, and an ear for the client leaving."""

    def __init__(self, chunks: AsyncGenerator[bytes, None], headers: list[tuple[bytes, bytes]], status: int) -> None:
        self._chunks = chunks
        self._status = status
        self._headers = headers
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises the typed error of an answer that failed before it began."""
        pump = asyncio.ensure_future(self._pump(send))
        ear = asyncio.ensure_future(gone(receive))
        try:
            await asyncio.wait({pump, ear}, return_when=asyncio.FIRST_COMPLETED)
            if pump.done():
                pump.result()
        finally:
            pump.cancel()
            ear.cancel()
            await asyncio.gather(pump, ear, return_exceptions=True)
            await self._chunks.aclose()

    async def _pump(self, send: Send) -> None:
        """Returns without an end of the body when it broke off: then the server closes the connection."""
        try:
            async for chunk in self._chunks:
                await self._write(send, chunk, more=True)
        except Exception as error:
            if not self._started:
                raise
            reason = error.message if isinstance(error, APIError) else "an unforeseen error"
            logger.warning("an answer was broken off: %s", reason, exc_info=not isinstance(error, APIError))
            return
        await self._write(send, b"", more=False)

    async def _write(self, send: Send, body: bytes, *, more: bool) -> None:
        if not self._started:
            self._started = True
            await send({"type": "http.response.start", "status": self._status, "headers": self._headers})
        await send({"type": "http.response.body", "body": body, "more_body": more})
