"""uvicorn's HTTP protocol with the limits that it lacks: on headers, on slow senders, and on readers who have stopped."""

from __future__ import annotations

import asyncio
import logging
from enum import Enum, auto
from http import HTTPStatus
from typing import Any, ClassVar, NoReturn

import httptools
from msgspec import Struct
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from openai_compat.errors import APIError, HeadersTooLarge, InvalidRequest, RequestTimeout, kind_of
from openai_compat.http.corked import Corked
from openai_compat.http.departure import DEPARTURE, Departure
from openai_compat.http.errors import encode_error
from openai_compat.http.request_id import new_request_id
from openai_compat.http.small import Pipeline, SmallEvent, SmallFlow

_logger = logging.getLogger("openai_compat.http")


class Limits(Struct, frozen=True, kw_only=True):
    """Sizes in bytes, times in seconds.

    ``header_time`` is for all headers together, ``body_gap`` for the silence between two pieces of a body, ``write_stall`` for
    a reader who takes nothing while an answer waits.
    """

    header_bytes: int = 32 * 1024
    header_count: int = 100
    header_time: float = 5.0
    body_gap: float = 5.0
    write_stall: float = 30.0


class Phase(Enum):
    """What the connection is reading. ``BLANK``: bytes may have come, but no request has begun."""

    IDLE = auto()
    BLANK = auto()
    HEADERS = auto()
    BODY = auto()


class GuardedProtocol(HttpToolsProtocol):
    """One connection. Whoever passes a limit gets OpenAI's error body, if nothing has been answered yet, and is closed."""

    # Beyond 30 attributes an object's dictionary is its own, and there are thousands of connections.
    __slots__ = (
        "_corked",
        "_departure",
        "_due",
        "_fed",
        "_header_bytes",
        "_phase",
        "_quiet_since",
        "_refusal",
        "_running",
        "_stall",
        "_timer",
    )
    limits: ClassVar[Limits] = Limits()

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.pipeline = Pipeline()  # type: ignore[assignment]
        self._phase = Phase.IDLE
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._fed = 0
        self._header_bytes = 0
        self._quiet_since = 0.0
        self._refusal: APIError | None = None
        self._departure = Departure()
        self._running: Any = None  # whose answer is on its way; ``cycle`` is the request that came last

    # ------------------------------------------------------------ connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = SmallFlow(transport)
        self._corked = Corked(transport, self.loop)
        self._phase = Phase.BLANK
        self._watch(self.limits.header_time)

    def connection_lost(self, exc: Exception | None) -> None:
        self._rest()
        self._unset_keepalive_if_required()
        if self._stall is not None:
            self._stall.cancel()
        super().connection_lost(exc)
        if self._running is not None and self._running is not self.cycle:
            self._running.disconnected = True
            self._running.message_event.set()
        self._departure.tell()

    def data_received(self, data: bytes) -> None:
        if self._phase is Phase.IDLE:
            self._phase = Phase.BLANK
            self._due = self.loop.time() + self.limits.header_time
        elif self._phase is Phase.BODY and not self.cycle.response_complete:
            self._due = self.loop.time() + self.limits.body_gap
        counted = self._phase is not Phase.BODY
        self._feed(data)
        if counted and self._phase in (Phase.BLANK, Phase.HEADERS) and not self.transport.is_closing():
            self._fed += len(data)
            if self._fed > self.limits.header_bytes:
                self._refuse(self._headers_too_large())
        if self._timer is None and self._phase is not Phase.IDLE:  # most requests come at once and need none
            self._timer = self.loop.call_later(self._due - self.loop.time(), self._look)

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._decline(data[offer.args[0] :])
        except httptools.HttpParserError:
            self._refuse(self._refusal or InvalidRequest("The request is not valid HTTP."))

    def _decline(self, rest: bytes) -> None:
        """Read a request that offers another protocol as if it did not: the parser would take its body for that protocol's.

        Java's HTTP client offers HTTP/2 with every first request.
        """
        if self.parser.get_method() == b"CONNECT":
            self._refuse(InvalidRequest("This server is no proxy."))
            return
        fields = [(name, value) for name, value in self.headers if name not in (b"upgrade", b"connection")]
        lines = [self.parser.get_method() + b" " + self.url + b" HTTP/1.1", *(n + b": " + v for n, v in fields), b"", b""]
        self.parser = httptools.HttpRequestParser(self)
        self._feed(b"\r\n".join(lines) + rest)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall = self.loop.call_later(self.limits.write_stall, self.transport.abort)

    def resume_writing(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        super().resume_writing()

    # ------------------------------------------------------------ parser callbacks; what they raise ends in a refusal

    def on_message_begin(self) -> None:
        if self._phase is Phase.IDLE:  # right behind another
            self._due = self.loop.time() + self.limits.header_time
        self._phase = Phase.HEADERS
        self._header_bytes = 0
        super().on_message_begin()
        self.scope["state"][DEPARTURE] = self._departure

    def on_url(self, url: bytes) -> None:
        self._header_bytes += len(url)
        if self._header_bytes > self.limits.header_bytes:
            self._too_much()
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """All that uvicorn's does is here, too: there are so many headers that a call for each tells."""
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > self.limits.header_bytes or len(self.headers) >= self.limits.header_count:
            self._too_much()
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._phase = Phase.BODY
        self._fed = 0
        self._due = self.loop.time() + self.limits.body_gap
        super().on_headers_complete()
        # Before anybody waits at the event or has written anything.
        self.cycle.message_event = SmallEvent()
        self.cycle.transport = self._corked  # type: ignore[assignment]
        if not self.pipeline:
            self._running = self.cycle

    def on_response_complete(self) -> None:
        """uvicorn's, but for the timer of a connection that is kept: it is not set anew for each request."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._running, app = self.pipeline.pop()
            self._start_asgi_task(self._running, app)
            return
        self._quiet_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._keep(self.timeout_keep_alive)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._phase = Phase.IDLE
        self._rest()
        super().on_message_complete()

    def _too_much(self) -> NoReturn:
        self._refusal = self._headers_too_large()
        raise self._refusal

    def _headers_too_large(self) -> HeadersTooLarge:
        return HeadersTooLarge(
            f"The request's headers are more than this server takes "
            f"({self.limits.header_count} headers, {self.limits.header_bytes} bytes)."
        )

    # ------------------------------------------------------------ time

    def _keep(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        """It looks how long nothing was asked; while something is, the end of that answer sets it again."""
        self.timeout_keep_alive_task = None
        if self._phase is not Phase.IDLE or self._answering():
            return
        left = self._quiet_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._keep(left)
        else:
            super().timeout_keep_alive_handler()

    def _watch(self, seconds: float) -> None:
        self._due = self.loop.time() + seconds
        if self._timer is None:
            self._timer = self.loop.call_later(seconds, self._look)

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """The timer is not moved for each piece of a body; firing, it looks, and sleeps again if the time was extended."""
        self._timer = None
        left = self._due - self.loop.time()
        if left > 0:
            self._timer = self.loop.call_later(left, self._look)
        elif not self.transport.is_closing():
            self._expire()

    def _expire(self) -> None:
        if self._phase is Phase.BODY:
            if self.flow.read_paused or self.cycle.waiting_for_100_continue:
                self._watch(self.limits.body_gap)
            else:
                self._refuse(RequestTimeout("The rest of the request body did not come in time."))
        elif self._phase is Phase.HEADERS:
            if self._answering():
                self._watch(self.limits.header_time)
            else:
                self._refuse(RequestTimeout("The rest of the request's headers did not come in time."))
        elif self._answering():
            self._phase = Phase.IDLE
        else:
            self.transport.close()

    # ------------------------------------------------------------ refusal

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self, error: APIError) -> None:
        """Answer if this very request is still unanswered; a second answer inside another would be worse than none."""
        begun = self._phase is Phase.BODY
        if (begun and self.cycle.response_started) or (not begun and self._answering()):
            self.transport.close()
            return
        state: dict[str, Any] = self.cycle.scope.setdefault("state", {}) if begun else {}
        request_id = state.get("request_id") or new_request_id()
        self._corked.flush()
        self.transport.write(_raw_answer(error, request_id))
        self.transport.close()
        if begun:
            state["status"] = kind_of(error).status
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        else:
            _logger.info("refused a request: %s [%s]", error.message, request_id)


def _raw_answer(error: APIError, request_id: str) -> bytes:
    status = HTTPStatus(kind_of(error).status)
    body = encode_error(error)
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        f"content-type: application/json\r\n"
        f"content-length: {len(body)}\r\n"
        f"x-request-id: {request_id}\r\n"
        f"connection: close\r\n\r\n"
    )
    return head.encode("latin-1") + body
