"""Pictures and sounds fetched from the URLs in requests, without ever being led into the network that the server stands in.

Every redirect is a new URL to all rules. Whatever goes wrong, a client reads the same words, at a whole second: of what
exists behind this server it learns nothing by them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Literal, Protocol

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from openai_compat.errors import InvalidRequest, Unavailable
from openai_compat.media.dial import Dialler, Policy, Refused
from openai_compat.media.sniff import PICTURES, TAKEN, sniff, sniff_picture
from openai_compat.media.urls import not_enabled, parse
from openai_compat.protocol import FetchRules

logger = logging.getLogger(__name__)

REDIRECTS = 3
CONNECTIONS = 4  # of one request
REQUESTS = 8  # that fetch, or have what they fetched decoded, at the same time
MOST = 16  # URLs of one request
TOGETHER = 64 << 20  # bytes of one request
_WORDS = "The {} could not be fetched from its URL, or it is too large, or not in a format that is taken here: {}."
_MESSAGES = {"picture": _WORDS.format("picture", PICTURES), "audio": _WORDS.format("sound", TAKEN)}
_CODES = {"picture": "invalid_image_url", "audio": "invalid_audio_url"}


class Remote(Protocol):
    """A picture or sound that may be somewhere else: then ``url`` says where, and ``data`` is empty."""

    @property
    def param(self) -> str: ...
    @property
    def url(self) -> str: ...
    @property
    def kind(self) -> Literal["picture", "audio"]: ...


class Fetcher:
    """Belongs to one event loop."""

    def __init__(self, policy: Policy = Policy()) -> None:  # noqa: B008 -- frozen
        self._dialler = Dialler(policy)
        self._turns = asyncio.Semaphore(REQUESTS)

    def close(self) -> None:
        self._dialler.close()

    @contextlib.asynccontextmanager
    async def fetched(self, parts: Sequence[Remote], rules: FetchRules | None) -> AsyncIterator[Mapping[str, bytes]]:
        """The bytes of those ``parts`` that have a URL, by their fields. While they are held, others may have to wait.

        Raises:
            InvalidRequest: naming the field: not enabled, too many of them, or not fetched, for whatever reason.
            Unavailable: too many requests are fetching.
        """
        far = [part for part in parts if part.url]
        if not far:
            yield {}
            return
        if rules is None:
            raise not_enabled(far[0].param)
        if len(far) > MOST:
            raise InvalidRequest(f"At most {MOST} URLs are allowed; {len(far)} were sent.", param=far[MOST].param)
        await self._turn(rules.timeout)
        try:
            yield await self._all(far, rules)
        finally:
            self._turns.release()

    async def _turn(self, patience: float) -> None:
        try:
            async with asyncio.timeout(patience):
                await self._turns.acquire()
        except TimeoutError:
            raise Unavailable("Too many files are being fetched from other servers.", retry_after=1) from None

    async def _all(self, far: Sequence[Remote], rules: FetchRules) -> Mapping[str, bytes]:
        """Each URL once, however often it is named."""
        first = {part.url: part for part in reversed(far)}
        job = _Job(self._dialler, rules)
        tasks = {url: asyncio.ensure_future(job.fetch(part)) for url, part in first.items()}
        try:
            await asyncio.gather(*tasks.values())
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)
        return {part.param: tasks[part.url].result() for part in far}


class _Job:
    """The fetching of one request: its time, its bytes, its connections."""

    def __init__(self, dialler: Dialler, rules: FetchRules) -> None:
        self._dialler = dialler
        self._rules = rules
        self._began = asyncio.get_running_loop().time()
        self._left = TOGETHER
        self._connections = asyncio.Semaphore(CONNECTIONS)

    async def fetch(self, part: Remote) -> bytes:
        try:
            async with asyncio.timeout_at(self._began + self._rules.timeout), self._connections:
                data = await self._followed(part.url)
            _check_format(part, data)
        except (Refused, aiohttp.ClientError, HttpProcessingError, OSError, ValueError) as error:  # TimeoutError is an OSError
            raise await self._failure(part, error) from None
        return data

    async def _followed(self, text: str) -> bytes:
        url = parse(text)
        for _ in range(REDIRECTS + 1):
            found = await self._dialler.get(url, self._rules.hosts, self._take, self._rules.max_bytes)
            if isinstance(found, bytes):
                return found
            url = found
        raise Refused("too many redirects")

    def _take(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise Refused("all together are too large")

    async def _failure(self, part: Remote, error: Exception) -> InvalidRequest:
        """In the same words, and after whole grains of time; the log gets the host."""
        url = parse(part.url)
        reason = str(error) if isinstance(error, Refused) else type(error).__name__
        logger.info("nothing was fetched from %s for a request: %s", url.host if url else "?", reason)
        spent, grain = asyncio.get_running_loop().time() - self._began, self._dialler.policy.grain
        await asyncio.sleep(grain * (math.floor(spent / grain) + 1) - spent)  # the loop's clock may have stood still
        return InvalidRequest(_MESSAGES[part.kind], param=part.param, code=_CODES[part.kind])


def _check_format(part: Remote, data: bytes) -> None:
    """As for any other file, but in the words for whatever else may have gone wrong."""
    try:
        sniff(data) if part.kind == "audio" else sniff_picture(data, param=part.param)
    except InvalidRequest:
        raise Refused("it is in no format that is taken") from None
