"""What belongs to one configuration, and which one is in force.

A request keeps the edition in which it began, to its end. What is here is made anew for each configuration; what must not be
lost with it (workers, accounts, what is stored) lasts as long as the process, and is handed from one edition to the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send
from msgspec import Struct

from openai_compat.config import Config
from openai_compat.directory import GatewayDirectory
from openai_compat.errors import ModelUnavailable
from openai_compat.gateway.answer_cache import AnswerCache
from openai_compat.gateway.catalog import Catalog
from openai_compat.gateway.checks import Checks
from openai_compat.gateway.discovery import Discovery
from openai_compat.gateway.engines.sender import EngineSender
from openai_compat.gateway.fetching import fetch_rules
from openai_compat.gateway.local import LocalSender
from openai_compat.gateway.metering.keeper import UsageKeeper
from openai_compat.gateway.metering.ledger import Ledger
from openai_compat.gateway.metering.report import UsageReport
from openai_compat.gateway.offers import Offers
from openai_compat.gateway.order import Failure, LocalTarget, Order, Sender, Target, UpstreamTarget
from openai_compat.gateway.pool import Pool
from openai_compat.gateway.relay import Relay
from openai_compat.gateway.replica import Answer
from openai_compat.gateway.routing.dispatcher import Router
from openai_compat.gateway.store.links import Links
from openai_compat.gateway.store.storage import Storage
from openai_compat.gateway.tasks import Tasks
from openai_compat.gateway.upstreams.sender import UpstreamSender
from openai_compat.http.sse import StreamTiming
from openai_compat.keys.ring import Ring


class Lasting(Struct, frozen=True, kw_only=True, eq=False):
    """What lives as long as the process."""

    pool: Pool
    storage: Storage
    ledger: Ledger
    usage: UsageKeeper
    keys: Ring


class Edition:
    """Everything that is made for one configuration. Touches no event loop before ``start``, so that a thread may build it.

    Args:
        before: the edition in force, whose knowledge of unchanged models and upstreams goes over.

    Raises ``ConfigError`` where an upstream's address or certificates are none.
    """

    def __init__(self, config: Config, catalog: Catalog, lasting: Lasting, before: Edition | None = None) -> None:
        server = config.server
        self.config = config
        self.catalog = catalog
        self.discovery: Discovery = Discovery(config, before=None if before is None else before.discovery)
        self.offers = Offers(config, catalog, self.discovery)
        self.checks = Checks(catalog, self.offers)
        self.links = Links(config, lasting.storage)
        self.timing = timing_of(config)
        self.upstreams = UpstreamSender(config.upstreams, hold=server.first_byte_timeout, ping_interval=server.ping_interval)
        local = LocalSender(self.checks, lasting.pool, self.links, fetch_rules(config.media))
        self.router = Router(config, _senders(EngineSender(config.models, lasting.pool, local), self.upstreams))
        self.relay = Relay(config, self.offers, self.checks, self.router, lasting.ledger, AnswerCache(config.cache))
        self.directory = GatewayDirectory(config, catalog, lasting.pool, self.offers)
        self.usage_reader = UsageReport(lasting.usage, lasting.ledger)
        self.requests = 0
        self.left = asyncio.Event()
        """Set once another edition is in force and the last request of this one is done."""

    async def start(self) -> None:
        await self.discovery.start()

    async def left_within(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.left.wait()

    async def close(self) -> None:
        await self.discovery.close()
        await self.upstreams.close()


class Editions:
    """The application: each request goes to the edition in force.

    ``open`` belongs before the first request. ``layers`` put an edition's own layers around ``app``, which lasts.
    """

    def __init__(self, first: Edition) -> None:
        self.now = first
        self._old: set[Edition] = set()
        self._tasks = Tasks()

    def open(self, app: ASGIApp, layers: Callable[[Edition], ASGIApp]) -> None:
        self._app = app
        self._layers = layers
        self._layered = layers(self.now)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        edition = self.now
        edition.requests += 1
        try:
            await self._layered(scope, receive, send)
        finally:
            self._done(edition)

    @asynccontextmanager
    async def using(self) -> AsyncIterator[Edition]:
        """The edition in force, kept open meanwhile: for work that is no request."""
        edition = self.now
        edition.requests += 1
        try:
            yield edition
        finally:
            self._done(edition)

    @asynccontextmanager
    async def relaying(self) -> AsyncIterator[Relay]:
        """The relay in force."""
        async with self.using() as edition:
            yield edition.relay

    def change(self, edition: Edition) -> None:
        """From now on ``edition`` is in force; the one before is closed when its last request is done."""
        before, self.now = self.now, edition
        self._layered = self._layers(edition)
        if not before.requests:
            before.left.set()
        self._old.add(before)
        self._tasks.spawn(self._see_off(before))

    async def start(self) -> None:
        await self.now.start()

    async def rest(self) -> None:
        """Ask upstreams for nothing by ourselves any more."""
        await self.now.discovery.close()

    async def close(self) -> None:
        await self._tasks.cancel()
        for edition in (*self._old, self.now):
            await edition.close()

    def _done(self, edition: Edition) -> None:
        edition.requests -= 1
        if edition is not self.now and not edition.requests:
            edition.left.set()

    async def _see_off(self, edition: Edition) -> None:
        await edition.discovery.close()
        await edition.left.wait()
        await edition.close()
        self._old.discard(edition)


class Latest:
    """``Sender`` of jobs, which outlive configurations: by the upstreams of the one in force."""

    def __init__(self, editions: Editions) -> None:
        self._editions = editions

    @asynccontextmanager
    async def send(self, order: Order, target: UpstreamTarget) -> AsyncIterator[Answer]:
        async with self._editions.using() as edition:
            if target.upstream not in edition.config.upstreams:
                message = f"The model '{order.public_name}' is not where the work was begun any more."
                raise Failure("refused", ModelUnavailable(message, retry=False))
            async with edition.upstreams.send(order, target) as answer:
                yield answer


def timing_of(config: Config) -> StreamTiming:
    return StreamTiming(first_byte_timeout=config.server.first_byte_timeout, ping_interval=config.server.ping_interval)


def _senders(local: Sender, upstreams: Sender) -> Callable[[Target], Sender]:
    return lambda target: local if isinstance(target, LocalTarget) else upstreams
