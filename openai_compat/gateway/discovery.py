"""Which models the upstreams list, asked in the background: at the start, and again every few minutes.

A list that was once read is kept when a later question fails. The gateway's start waits for nothing of this.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from openai_compat.config import Config, Upstream
from openai_compat.gateway.listing import Listed, ListingFailed, list_models
from openai_compat.gateway.tasks import Tasks

logger = logging.getLogger(__name__)
EVERY = 300.0
AFTER_FAILURE = 20.0
Ask = Callable[[str, Upstream], Awaitable[Mapping[str, Listed]]]


class Discovery:
    """``offers.Discovered`` over what each upstream with ``discover`` says."""

    def __init__(
        self,
        config: Config,
        ask: Ask = list_models,
        *,
        every: float = EVERY,
        after: float = AFTER_FAILURE,
        before: Discovery | None = None,
    ) -> None:
        """``before`` is another configuration's: the lists of upstreams that are the same are known from the beginning."""
        self._upstreams = {name: upstream for name, upstream in config.upstreams.items() if upstream.discover}
        self._ask = ask
        self._every = every
        self._after = after
        self._lists: dict[str, Mapping[str, Listed]] = {} if before is None else before._lists_of(self._upstreams)
        self._awaited = set(self._upstreams) - self._lists.keys()
        self._settled = asyncio.Event()
        self._failures: dict[str, str] = {}
        self._version = 0
        self._tasks = Tasks()

    @property
    def version(self) -> int:
        return self._version

    def listed(self, upstream: str) -> Mapping[str, Listed] | None:
        return self._lists.get(upstream)

    def awaited(self, upstream: str) -> bool:
        return upstream in self._awaited

    async def start(self) -> None:
        self._tell_settled()
        for name, upstream in self._upstreams.items():
            self._tasks.spawn(self._keep_asking(name, upstream))

    async def close(self) -> None:
        await self._tasks.cancel()

    async def settled(self, seconds: float) -> None:
        """Wait until each upstream has answered once, or failed to, or the time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._settled.wait()

    def _lists_of(self, upstreams: Mapping[str, Upstream]) -> dict[str, Mapping[str, Listed]]:
        same = [name for name, upstream in upstreams.items() if self._upstreams.get(name) == upstream]
        return {name: self._lists[name] for name in same if name in self._lists}

    async def _keep_asking(self, name: str, upstream: Upstream) -> None:
        while True:
            good = await self._renew(name, upstream)
            await asyncio.sleep(self._every if good else self._after)

    async def _renew(self, name: str, upstream: Upstream) -> bool:
        """Ask once. Whether there was an answer."""
        try:
            found = await self._ask(name, upstream)
        except ListingFailed as error:
            self._failed(name, str(error))
            return False
        except Exception as error:  # the boundary: whatever it was, the next question may be answered
            self._failed(name, type(error).__name__)
            return False
        self._failures.pop(name, None)
        if found != self._lists.get(name):
            logger.info("the upstream '%s' lists %d models", name, len(found))
            self._lists[name] = found
            self._version += 1
        self._settle(name)
        return True

    def _failed(self, name: str, why: str) -> None:
        """Said once, and again when it is for another reason, or after an answer."""
        if self._failures.get(name) != why:
            logger.warning("the models of the upstream '%s' are not known: %s", name, why)
            self._failures[name] = why
        self._settle(name)

    def _settle(self, name: str) -> None:
        if name in self._awaited:
            self._awaited.discard(name)
            self._version += 1
        self._tell_settled()

    def _tell_settled(self) -> None:
        if not self._awaited:
            self._settled.set()
