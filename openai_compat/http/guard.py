"""uvicorn's HTTP protocol with the limits that it lacks: on headers, on slow senders, and on readers who have stopped."""

from __future__ import annotations

import asyncio
import logging
from enum import Enum, auto
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.server import ServerState

from openai_compat.errors import APIError, InvalidRequest, RequestTimeout, kind_of
from openai_compat.http.bounds import Pace
from openai_compat.http.corked import Corked
from openai_compat.http.departure import DEPARTURE, Departure
from openai_compat.http.raw import raw_answer
from openai_compat.http.request_id import new_request_id
from openai_compat.http.small import Pipeline, SmallEvent, SmallFlow
from openai_compat.http.strict import StrictProtocol
from openai_compat.http.unframed import unframe

_logger = logging.getLogger("openai_compat.http")


class Phase(Enum):
    """What the connection is reading. ``BLANK``: bytes may have come, but no request has begun."""

    IDLE = auto()
    BLANK = auto()
    HEADERS = auto()
    BODY = auto()


class GuardedProtocol(StrictProtocol):
    """One connection. Whoever passes a limit gets OpenAI's error body, if nothing has been answered yet, and is closed."""

    # Beyond 30 attributes an object's dictionary is its own, and there are thousands of connections.
    __slots__ = (
        "_corked",
        "_departure",
        "_due",
        "_fed",
        "_pace",
        "_phase",
        "_quiet_since",
        "_running",
        "_stall",
        "_timer",
    )

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
        self._pace: Pace | None = None
        self._quiet_since = 0.0
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
        before, cycle = self._phase, self.cycle
        self._feed(data)
        if self._phase is not Phase.IDLE and self.cycle is cycle and (before is Phase.BODY) is (self._phase is Phase.BODY):
            self._weigh(len(data))
        if self._timer is None and self._phase is not Phase.IDLE:  # most requests come at once and need none
            self._timer = self.loop.call_later(self._due - self.loop.time(), self._look)

    def _weigh(self, size: int) -> None:
        """Count what is neither a header nor a body: blank lines, the beginning of a header, what is said about chunks."""
        self._fed += size
        if self.transport.is_closing():
            return
        if self._phase is not Phase.BODY and self._fed > self.limits.header_bytes:
            self._refuse(self._headers_too_large())
        elif self._phase is Phase.BODY and self.limits.too_much_framing(self._fed, self._body_bytes):
            self._refuse(InvalidRequest("The request's body is much smaller than what is said about its chunks."))

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
        super().on_message_begin()
        self.scope["state"][DEPARTURE] = self._departure

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._check_head()
        super().on_headers_complete()  # which refuses some addresses, too: until then this is no request that has an answer
        self._phase = Phase.BODY
        self._fed = 0
        self._pace = None
        self._due = self.loop.time() + self.limits.body_gap
        self.headers = self.headers[:]  # what comes behind the body is counted with them, and shown to nobody
        # Before anybody waits at the event or has written anything.
        self.cycle.message_event = SmallEvent()
        self.cycle.transport = self._corked  # type: ignore[assignment]
        if self.scope["http_version"] == "1.0":
            unframe(self.cycle)
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
        self.headers = []  # as long as the answer lasts its reader has the only list of them
        if self._running is self.cycle and not self.cycle.response_complete:
            self.flow.resume_reading()  # a large last piece stops it, and nobody would learn that the client has left
        super().on_message_complete()

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

    @property
    def rested(self) -> float:
        """Seconds since the last answer; none while anything is asked or answered."""
        if self._phase is not Phase.IDLE or self._answering():
            return 0.0
        return self.loop.time() - self._quiet_since

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
        now = self.loop.time()
        left = self._due - now
        if self._phase is Phase.BODY:
            left = min(left, self._pace_left(now))
        if left > 0:
            self._timer = self.loop.call_later(left, self._look)
        elif not self.transport.is_closing():
            self._expire()

    def _pace_left(self, now: float) -> float:
        """The first look is one gap after the head of a request."""
        if self._pace is None:
            self._pace = Pace(self.limits, now - self.limits.body_gap)
        return self._pace.left(now, self._body_bytes)

    def _expire_body(self) -> None:
        """A client who waits for us is excused, and has a whole gap again when we are ready."""
        pace = self._pace or Pace(self.limits, self.loop.time())
        waits = self.flow.read_paused or self.cycle.waiting_for_100_continue
        if not waits and not pace.excused:
            self._refuse(RequestTimeout("The rest of the request body did not come in time."))
            return
        pace.excused = waits
        pace.restart(self.loop.time(), self._body_bytes)
        self._watch(self.limits.body_gap)

    def _expire(self) -> None:
        if self._phase is Phase.BODY:
            self._expire_body()
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
        """Answer if this very request is still unanswered, and none before it: it would be taken for the answer to that one."""
        begun = self._phase is Phase.BODY
        if (begun and (self.cycle.response_started or self._running is not self.cycle)) or (not begun and self._answering()):
            self.transport.close()
            return
        state: dict[str, Any] = self.cycle.scope.setdefault("state", {}) if begun else {}
        request_id = state.get("request_id") or new_request_id()
        self._corked.flush()
        self.transport.write(raw_answer(error, request_id))
        self.transport.close()
        if begun:
            state["status"] = kind_of(error).status
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        else:
            _logger.info("refused a request: %s [%s]", error.message, request_id)
