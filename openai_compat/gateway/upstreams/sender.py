"""Sends requests to upstreams: one exchange, one target, one answer or a ``Failure``."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from functools import lru_cache

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from openai_compat.config import Upstream
from openai_compat.errors import ShuttingDown
from openai_compat.gateway.order import Failure, Order, UpstreamTarget
from openai_compat.gateway.replica import Answer
from openai_compat.gateway.spool import Body
from openai_compat.gateway.upstreams.answer import begin
from openai_compat.gateway.upstreams.failures import failure_of, full, not_there, redirected, unreadable
from openai_compat.gateway.upstreams.flow import abandon, in_time
from openai_compat.gateway.upstreams.forms import rewritten_form, typed
from openai_compat.gateway.upstreams.headers import HeadersFor
from openai_compat.gateway.upstreams.keys import Key, KeyUnavailable, Pairs
from openai_compat.gateway.upstreams.patience import GLANCE
from openai_compat.gateway.upstreams.plan import Response, SendPlan
from openai_compat.gateway.upstreams.rewrite import is_ambiguous, may_ask_usage, must_change, rewritten
from openai_compat.gateway.upstreams.session import Session, tls_context
from openai_compat.gateway.upstreams.urls import Addresses
from openai_compat.gateway.upstreams.whole import is_stream
from openai_compat.gateway.upstreams.wire import Reply
from openai_compat.http.delays import Delay

_ENCRYPTED = "https:"
_UNPACKED = frozenset({"", "identity", "gzip", "deflate", "br", "zstd"})  # by aiohttp, or else refused by it
_REDIRECTS = range(300, 400)
_SHORTEST = 6  # characters of what is worth hiding; shorter ones are parts of words
_TELLING = ("key", "token", "secret", "auth")


class UpstreamSender:
    """The way to every upstream of the configuration, by its name there.

    Args:
        hold: seconds for which the status of a stream is held back.
        ping_interval: seconds between signs of life to a client, while an upstream is silent.

    Raises ``ConfigError`` where an upstream's address or certificates are none.
    """

    def __init__(self, upstreams: Mapping[str, Upstream], *, hold: float, ping_interval: float) -> None:
        context = lru_cache(maxsize=None)(tls_context)  # each takes milliseconds, and a megabyte
        self._lanes: dict[str, _Lane] = {}
        for name, settings in upstreams.items():
            tls = context(settings.ca_file) if settings.base_url.lower().startswith(_ENCRYPTED) else None
            self._lanes[name] = _Lane(name, settings, tls, hold, ping_interval)

    def send(self, order: Order, target: UpstreamTarget) -> Exchange:
        return Exchange(self._lanes[target.upstream], order, target)

    def in_flight(self, upstream: str) -> int:
        """Requests that are there now."""
        return self._lanes[upstream].in_flight

    async def close(self) -> None:
        for lane in self._lanes.values():
            await lane.session.close()


class Exchange:
    """One request and its answer. A class, since a generator as context manager costs a request 10 µs more."""

    __slots__ = ("_lane", "_opening", "_order", "_response", "_target")

    def __init__(self, lane: _Lane, order: Order, target: UpstreamTarget) -> None:
        self._lane = lane
        self._order = order
        self._target = target
        self._response: Response | None = None
        self._opening: asyncio.Task[Answer] | None = None

    async def __aenter__(self) -> Answer:
        lane, order, target = self._lane, self._order, self._target
        if order.endpoint.local:
            raise not_there(order.public_name)
        order.tally.aim(target.label, target.price)
        lane.enter(order)
        try:
            if not is_stream(order):
                return await self._open()
            self._opening = asyncio.ensure_future(self._open())
            answer = await in_time(self._opening, lane.hold, lane.ping_interval)
            if self._opening.done():
                self._opening = None  # a kilobyte for as long as the stream is open
            return answer
        except BaseException:
            self._leave()
            raise

    async def _open(self) -> Answer:
        self._response, plan = await self._lane.sent(self._order, self._target)
        answer = await begin(self._response, plan)
        if isinstance(self._response, Reply):
            self._response.forget_head()
        return answer

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    def _leave(self) -> None:
        """After the end of the answer the connection is in the pool already, and is not touched."""
        self._lane.in_flight -= 1
        if self._opening is not None:
            abandon(self._opening)
        if self._response is not None:
            self._response.close()


class _Lane:
    """Everything about one upstream."""

    def __init__(self, name: str, settings: Upstream, tls: ssl.SSLContext | None, hold: float, ping_interval: float) -> None:
        self.in_flight = 0
        self._addresses = Addresses(settings)
        self.session = Session(settings, self._addresses.origin, tls)
        self._name = name
        self._settings = settings
        self.hold = hold
        self.ping_interval = ping_interval
        self._glances = Delay(GLANCE)
        self._key = Key(settings)
        self._headers = HeadersFor(settings)
        self._secrets: tuple[str, ...] = ()
        self._secrets_of: Pairs | None = None

    def enter(self, order: Order) -> None:
        if self.session.closed:
            raise Failure("not_begun", ShuttingDown("The server is shutting down.", retry_after=1))
        if self._settings.max_in_flight is not None and self.in_flight >= self._settings.max_in_flight:
            raise full(self._name, order.public_name)
        self.in_flight += 1

    async def sent(self, order: Order, target: UpstreamTarget) -> tuple[Response, SendPlan]:
        """The head of the answer. Raises ``Failure``, and ``APIError`` for a request that nobody would take."""
        try:
            key = self._key.headers()
            body, asked_usage = await self._body(order, target)
            response = await self._send(order, target, key, body)
        except (aiohttp.ClientError, HttpProcessingError, OSError, KeyUnavailable) as error:
            raise failure_of(error, self._name, order.public_name) from None
        if response.status in _REDIRECTS:
            response.close()
            raise redirected(self._name, order.public_name)
        if response.headers.get("Content-Encoding", "").lower() not in _UNPACKED:
            response.close()
            raise unreadable(self._name, order.public_name)
        return response, self._plan(order, target, key, asked_usage)

    async def _send(self, order: Order, target: UpstreamTarget, key: Pairs, body: bytes | Body) -> Response:
        url = self._addresses.of(order.path, order.query, target.remote_name)
        size = len(body) if isinstance(body, bytes) else body.size
        client = order.headers if order.form is None else typed(order.headers)
        headers = self._headers.make(client, key, order.request_id, body=size > 0, owner=order.key_id)
        return await self.session.send(order.method, url, headers, body)

    async def _body(self, order: Order, target: UpstreamTarget) -> tuple[bytes | Body, bool]:
        """The body as it goes there, and whether it asks for usage that the client did not ask for."""
        body, envelope, model = order.body, order.envelope, target.model
        ask = self._settings.usage and may_ask_usage(order.path, envelope, model)
        if not ask and not must_change(envelope, model, target.remote_name) and not _misleads(order):
            return body, False
        if order.form is not None:
            return await rewritten_form(body, order.headers, model, target.remote_name), False
        if not body or not isinstance(body, bytes):
            return body, False
        return rewritten(body, model, target.remote_name, ask_usage=ask)

    def _plan(self, order: Order, target: UpstreamTarget, key: Pairs, asked_usage: bool) -> SendPlan:
        if key is not self._secrets_of:
            self._secrets_of = key
            self._secrets = _secrets(self._settings, self._key.secret, self._addresses.origin)
        return SendPlan(
            order=order,
            target=target,
            upstream=self._settings,
            asked_usage=asked_usage,
            echo=(target.remote_name, order.public_name) if target.remote_name != order.public_name else None,
            ping_interval=self.ping_interval,
            glances=self._glances,
            secrets=self._secrets,
        )


def _misleads(order: Order) -> bool:
    """Whether an upstream may read another model's name in it than we have."""
    if order.form is not None:
        return len(order.form.fields.get("model", ())) > 1 or "model" in order.form.files
    return isinstance(order.body, bytes) and bool(order.body) and is_ambiguous(order.body)


def _secrets(settings: Upstream, key: str, origin: URL) -> tuple[str, ...]:
    """What an answer may not say of us, longest first: a part of one must not be taken out of another."""
    headers = [value for name, value in settings.headers.items() if any(part in name.lower() for part in _TELLING)]
    hosts = [str(origin), origin.raw_authority, settings.base_url.rstrip("/"), settings.base_url.partition("{model}")[0]]
    found = {key, *headers, *hosts, settings.proxy, settings.organization, settings.project, *settings.query.values()}
    return tuple(sorted((secret for secret in found if len(secret) >= _SHORTEST), key=len, reverse=True))
