"""The outermost layer of the gateway: a request id on every answer, a line a request in the log, and the metrics."""

from __future__ import annotations

import logging
import re
import time
from asyncio import CancelledError
from collections.abc import Callable
from functools import partial

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPReceiveMessage, HTTPScope, Message, Receive, Scope, Send

from openai_compat.errors import APIError, ShuttingDown, error_event
from openai_compat.http.errors import send_error
from openai_compat.http.request_id import HEADER, request_id_of
from openai_compat.metrics import UNMATCHED, Metrics
from openai_compat.sizes import format_size

_CLIENT_GONE = 499
_EVENT_STREAM = b"text/event-stream"
_EVENT_ENDS = (b"\n\n", b"\r\n\r\n")
_QUIET_PATHS = frozenset({"/health/live", "/health/ready", "/metrics"})
_LINKS = "/v1/media/"
_MEDIA = "media"
_LINE = "%s %s %d %s %.3fs first byte %s %s %s"
_SLASHES = re.compile("/+")  # several count as one when routes are looked for
_access = logging.getLogger("openai_compat.access")
_logger = logging.getLogger("openai_compat.http")


class Telemetry:
    """Wraps the whole application, since a framework's middleware is not run for the answers that its router makes.

    The layers inside may leave the model's canonical id in ``scope["state"]["model"]``, and headers for whatever is answered
    in ``scope["state"]["headers"]``.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send)
        self._metrics.in_flight += 1
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except CancelledError:
            # Only the end of the server cancels a request from outside; for a client who leaves, a layer inside returns.
            await exchange.cut_off(ShuttingDown("The server is shutting down.", retry_after=1))
        except Exception as error:
            # After the first byte nothing can be answered any more: uvicorn closes the connection, and the client sees a break.
            _logger.error("%s failed [%s]", scope["path"], exchange.request_id, exc_info=error)
            if exchange.status is None:
                await send_error(exchange.send, error)
        finally:
            self._metrics.in_flight -= 1
            self._record(exchange, scope)

    def _record(self, exchange: _Exchange, scope: HTTPScope) -> None:
        route = scope.get("path_template") or UNMATCHED
        model = str(scope["state"].get("model", ""))
        duration = time.perf_counter() - exchange.began
        self._metrics.observe(
            route=route,
            status=exchange.final_status,
            model=model,
            duration=duration,
            first_byte=exchange.first_byte,
        )
        exchange.log(model, duration)


class _Line(logging.LogRecord):
    """A record with what differs from line to line. The place in the code, the process and the thread are always the same, and
    to find them out takes longer than to write the line.
    """

    fields: Callable[[], dict[str, object]]

    def __init__(self, level: int, words: tuple[object, ...], fields: Callable[[], dict[str, object]]) -> None:
        now = time.time()
        self.__dict__.update(
            _SAME,
            levelno=level,
            levelname=logging.getLevelName(level),
            args=words,
            fields=fields,
            created=now,
            msecs=now % 1 * 1e3,
        )


_SAME = logging.makeLogRecord({"name": _access.name, "msg": _LINE}).__dict__


class _Exchange:
    """One request and its answer as they pass by."""

    __slots__ = (
        "_client", "_events", "_method", "_path", "_receive", "_send", "_state", "_whole_event", "began", "client_gone",
        "complete", "first_byte", "request_id", "sent", "status",
    )  # fmt: skip

    def __init__(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        self.began = time.perf_counter()
        self.request_id = request_id_of(scope["headers"])
        self.status: int | None = None
        self.first_byte: float | None = None
        self.sent = 0
        self.complete = False
        self.client_gone = False
        self._events = False
        self._whole_event = True
        self._method = scope["method"]
        self._path = _without_secrets(scope["path"])
        self._client = (scope.get("client") or ("", 0))[0]
        self._receive = receive
        self._send = send
        self._state = scope.setdefault("state", {})
        self._state["request_id"] = self.request_id

    async def receive(self) -> HTTPReceiveMessage:
        message = await self._receive()
        if message["type"] == "http.disconnect" and not self.complete:
            self.client_gone = True
        return message  # type: ignore[return-value]

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = _without_ours(message.get("headers", ()))
            self._events = any(name == b"content-type" and value.startswith(_EVENT_STREAM) for name, value in headers)
            message["headers"] = [*headers, *self._headers()]
        elif message["type"] == "http.response.body":
            body = message.get("body", b"")
            self._count(len(body))
            self._whole_event = body.endswith(_EVENT_ENDS) if body else self._whole_event
            self.complete = not message.get("more_body", False)
        await self._send(message)

    async def cut_off(self, error: APIError) -> None:
        """End an answer in the way that is still possible; one of announced length stays incomplete, which the client sees."""
        if self.status is None:
            await send_error(self.send, error)
        elif self._events and not self.complete:
            gap = b"" if self._whole_event else b"\n\n"
            await self.send({"type": "http.response.body", "body": gap + error_event(error), "more_body": False})

    def _headers(self) -> list[tuple[bytes, bytes]]:
        milliseconds = int((time.perf_counter() - self.began) * 1000)
        said = self._state.get("headers", ())
        return [(HEADER, self.request_id.encode()), (b"openai-processing-ms", str(milliseconds).encode()), *said]

    def _count(self, size: int) -> None:
        if size and self.first_byte is None:
            self.first_byte = time.perf_counter() - self.began
        self.sent += size

    @property
    def final_status(self) -> int:
        """The status for log and metrics; the protocol layer leaves one it sent itself in ``scope["state"]["status"]``."""
        refused: int | None = self._state.get("status")
        if refused is not None:
            return refused
        if self.client_gone:
            return _CLIENT_GONE
        return self.status or 500

    def log(self, model: str, duration: float) -> None:
        status = self.final_status
        first = "-" if self.first_byte is None else f"{self.first_byte:.3f}s"
        level = logging.WARNING if status >= 500 else logging.DEBUG if self._path in _QUIET_PATHS else logging.INFO
        if not _access.isEnabledFor(level):
            return
        words = (self._method, self._path, status, model or "-", duration, first, format_size(self.sent), self.request_id)
        _access.handle(_Line(level, words, partial(self._fields, model, status, duration)))

    def _fields(self, model: str, status: int, duration: float) -> dict[str, object]:
        return {
            "method": self._method,
            "path": self._path,
            "status": status,
            "model": model or None,
            "key_id": self._state.get("key_id") or None,
            "duration": round(duration, 6),
            "first_byte": None if self.first_byte is None else round(self.first_byte, 6),
            "bytes": self.sent,
            "client": self._client,
            "request_id": self.request_id,
        }


def _without_ours(headers: object) -> list[tuple[bytes, bytes]]:
    """A relayed answer brings the replica's own id along; the client must see one only."""
    return [(name, value) for name, value in headers if name.lower() not in (HEADER, b"openai-processing-ms")]  # type: ignore[attr-defined]


def _without_secrets(path: str) -> str:
    """Whoever has a link may see what is behind it, and a log has more readers than that."""
    return _LINKS + "…" if _MEDIA in path and _SLASHES.sub("/", path).startswith(_LINKS) else path
