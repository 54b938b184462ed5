"""Whether an engine serves yet, and what it calls its model."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import urlsplit

import aiohttp

from openai_compat.config import Upstream
from openai_compat.errors import ModelUnavailable
from openai_compat.gateway.engines.ports import is_strangers
from openai_compat.gateway.listing import ListingFailed, models_of

logger = logging.getLogger(__name__)
_FIRST, _LONGEST, _GROWTH = 0.05, 1.0, 1.3  # seconds between two questions, and what they grow by
_PATIENCE = 5.0  # seconds for an answer
_LONGEST_LIST = 1 << 20


class Health:
    """Asks an engine at ``url``; ``tell`` hears of each stage of its start."""

    def __init__(self, model_id: str, url: str, engine: Upstream, tell: Callable[[str], None]) -> None:
        self._model_id = model_id
        self._url = url
        self._engine = engine
        self._port = urlsplit(engine.base_url).port or 0
        self._tell = tell
        self._last = 0

    async def wait(self) -> None:
        """Return once it answers 200. Raises ``ModelUnavailable`` where somebody else answers in its place."""
        pause = _FIRST
        async with self._session() as session:
            while not await self._serves(session):
                await asyncio.sleep(pause)
                pause = min(_LONGEST, pause * _GROWTH)

    async def names(self) -> tuple[str, ...]:
        """What it calls its models; nothing where it does not tell."""
        try:
            async with self._session() as session, session.get(self._engine.base_url + "/models") as response:
                page = await response.content.read(_LONGEST_LIST)
                return tuple(models_of(page)) if response.status == HTTPStatus.OK else ()
        except (aiohttp.ClientError, TimeoutError, OSError, ListingFailed):
            return ()

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_PATIENCE), headers=self._engine.headers)

    async def _serves(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.get(self._url, allow_redirects=False) as response:
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False
        if await asyncio.to_thread(is_strangers, self._port):
            raise ModelUnavailable(f"The port of the model '{self._model_id}' was taken by another program.")
        self._note(status)
        return status == HTTPStatus.OK

    def _note(self, status: int) -> None:
        """It answers, so it is being loaded, or is asked at the wrong place."""
        if status == self._last:
            return
        self._last = status
        self._tell("loading")
        if status not in (HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE):
            logger.warning(
                "%s answers %d where its health is asked; 'engine.health' says where that is", self._model_id, status
            )
