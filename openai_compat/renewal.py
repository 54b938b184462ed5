"""From one configuration to the next, and the gateway as whoever runs it knows it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from litestar.types import ASGIApp, Receive, Scope, Send

from openai_compat.config import Config, ConfigError
from openai_compat.directory import GatewayReadiness
from openai_compat.edition import Edition, Editions, Lasting
from openai_compat.gateway.catalog import Catalog
from openai_compat.gateway.jobs.videos import VideoDesk
from openai_compat.http.crowd import Crowd
from openai_compat.reload import Commit, Reload
from openai_compat.settings import check_exposure

_LISTS = 10.0  # seconds that new upstreams have to say what they offer before requests come to the new edition
_PARTING = 0.5  # seconds in which requests under way may still ask for a model that is removed


class Renewal:
    """``reload.Renew``: the new edition beside the old one, then all at once."""

    def __init__(self, editions: Editions, lasting: Lasting, videos: VideoDesk) -> None:
        self._editions = editions
        self._lasting = lasting
        self._videos = videos

    async def __call__(self, config: Config, commits: tuple[Commit, ...]) -> None:
        before = self._editions.now
        edition = await asyncio.to_thread(self._made, config, before)
        try:
            limits = await self._measured(config)
            await edition.start()
            await edition.discovery.settled(_LISTS)
        except BaseException:
            await edition.close()
            raise
        self._change(edition, limits, commits)
        if self._lasting.pool.has_removed:
            await before.left_within(_PARTING)
            self._lasting.pool.prune()

    def _made(self, config: Config, before: Edition) -> Edition:
        check_exposure(config)
        return Edition(config, Catalog(config, before.catalog), self._lasting, before)

    async def _measured(self, config: Config) -> dict[str, int]:
        try:
            return await self._lasting.pool.measure(config)
        except ValueError as error:
            raise ConfigError(f"memory: {error}") from None

    def _change(self, edition: Edition, limits: dict[str, int], commits: tuple[Commit, ...]) -> None:
        """Nothing is awaited here, so no request sees a half of it."""
        config = edition.config
        self._lasting.pool.renew(config, edition.catalog, limits)
        self._videos.renew(config, edition.checks, edition.offers)
        self._lasting.keys.configure(config.auth.keys)
        self._lasting.ledger.renew(config.metering)
        self._editions.change(edition)
        for commit in commits:
            commit()


class Gateway:
    """The server's application, and the handles of whoever runs it. ``admin`` is what operators are served, ``crowd`` whoever
    is not an operator.
    """

    def __init__(self, app: ASGIApp, reload: Reload, readiness: GatewayReadiness, *, crowd: Crowd, admin: ASGIApp) -> None:
        self._app = app
        self._readiness = readiness
        self.reload = reload
        self.crowd = crowd
        self.admin = admin

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        return self._app(scope, receive, send)  # type: ignore[return-value]

    def drain(self) -> None:
        """The server will end: whoever asks is told to send nothing more, and what runs is finished."""
        self._readiness.draining = True
        self.reload.refuse()
