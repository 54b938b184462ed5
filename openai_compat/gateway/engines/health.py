"""Whether an engine serves yet."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus

import aiohttp

from openai_compat.errors import ModelUnavailable
from openai_compat.gateway.engines.ports import is_strangers

logger = logging.getLogger(__name__)
_FIRST, _LONGEST, _GROWTH = 0.05, 1.0, 1.3  # seconds between two questions, and what they grow by
_PATIENCE = 5.0  # seconds for an answer


class Health:
    """Asks an engine at ``url`` with ``key``; ``tell`` hears of each stage of its start."""

    def __init__(self, model_id: str, url: str, port: int, key: str, tell: Callable[[str], None]) -> None:
        self._model_id = model_id
        self._url = url
        self._port = port
        self._headers = {"Authorization": f"Bearer {key}"}
        self._tell = tell
        self._last = 0

    async def wait(self) -> None:
        """Return once it answers 200. Raises ``ModelUnavailable`` where somebody else answers in its place."""
        pause = _FIRST
        timeout = aiohttp.ClientTimeout(total=_PATIENCE)
        async with aiohttp.ClientSession(timeout=timeout, headers=self._headers) as session:
            while not await self._serves(session):
                await asyncio.sleep(pause)
                pause = min(_LONGEST, pause * _GROWTH)

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
